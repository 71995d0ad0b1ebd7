import { type Fields, fields, list, map, marker, quantity, text, whole } from "./shape.ts";

const expression = fields({ key: text(317), operator: text(16), values: list(text(253)) });
const selector = fields({ matchLabels: map(text(63)), matchExpressions: list(expression) });
const nodeTerm = fields({ matchExpressions: list(expression), matchFields: list(expression) });
const podTerm = fields({
  labelSelector: selector,
  namespaceSelector: selector,
  namespaces: list(text(63)),
  topologyKey: text(317),
  matchLabelKeys: list(text(317)),
  mismatchLabelKeys: list(text(317)),
});
const podAffinity = fields({
  requiredDuringSchedulingIgnoredDuringExecution: list(podTerm),
  preferredDuringSchedulingIgnoredDuringExecution: list(fields({ weight: whole, podAffinityTerm: podTerm })),
});
const nodeAffinity = fields({
  requiredDuringSchedulingIgnoredDuringExecution: fields({ nodeSelectorTerms: list(nodeTerm) }),
  preferredDuringSchedulingIgnoredDuringExecution: list(fields({ weight: whole, preference: nodeTerm })),
});

const probe = fields({
  exec: fields({ command: list(text(4096)) }),
  guestAgentPing: marker,
  httpGet: fields({
    host: text(),
    path: text(2048),
    port: quantity,
    scheme: text(8),
    httpHeaders: list(fields({ name: text(), value: text(4096) })),
  }),
  tcpSocket: fields({ host: text(), port: quantity }),
  initialDelaySeconds: whole,
  periodSeconds: whole,
  timeoutSeconds: whole,
  successThreshold: whole,
  failureThreshold: whole,
});

/**
 * Where a machine runs, and how it is found and watched there. A scheduler of one's own and a priority class, by which other pods
 * would be pushed off their nodes, are the target cluster's to give.
 */
export const SCHEDULING_FIELDS: Fields = {
  nodeSelector: map(text(63)),
  affinity: fields({ nodeAffinity, podAffinity, podAntiAffinity: podAffinity }),
  tolerations: list(
    fields({ key: text(317), operator: text(16), value: text(63), effect: text(32), tolerationSeconds: whole }),
  ),
  topologySpreadConstraints: list(
    fields({
      maxSkew: whole,
      minDomains: whole,
      topologyKey: text(317),
      whenUnsatisfiable: text(32),
      labelSelector: selector,
      matchLabelKeys: list(text(317)),
      nodeAffinityPolicy: text(16),
      nodeTaintsPolicy: text(16),
    }),
  ),
  terminationGracePeriodSeconds: whole,
  evictionStrategy: text(32),
  startStrategy: text(32),
  hostname: text(63),
  subdomain: text(63),
  dnsPolicy: text(32),
  dnsConfig: fields({
    nameservers: list(text(64)),
    searches: list(text()),
    options: list(fields({ name: text(63), value: text() })),
  }),
  livenessProbe: probe,
  readinessProbe: probe,
};
