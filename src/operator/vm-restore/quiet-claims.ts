/**
 * For claims that are full on purpose: what tells the alert "volume is filling up" to leave them out. The first label is the one that
 * OpenShift's rule and CDI's own claims use, the second that of the kubernetes-mixin's rules.
 */
export const FULL_ON_PURPOSE: Readonly<Record<string, string>> = {
  "alerts.k8s.io/KubePersistentVolumeFillingUp": "disabled",
  excluded_from_alerts: "true",
};
