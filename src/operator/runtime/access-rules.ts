import * as z from "zod";
import type { Clock } from "../../base/clock.ts";
import { ApiError } from "./errors.ts";
import type { Transport } from "./transport.ts";

const rule = z.object({
  verbs: z.array(z.string()),
  apiGroups: z.array(z.string()).optional(),
  resources: z.array(z.string()).optional(),
  resourceNames: z.array(z.string()).optional(),
});

const review = z.object({
  status: z.object({ resourceRules: z.array(rule).nullish(), incomplete: z.boolean().default(false) }),
});

/** A rule of authorization.k8s.io/v1: what may be done to which resources. */
export type AccessRule = z.infer<typeof rule>;

export interface AccessRules {
  /** What this operator may do in a namespace; undefined where the API server cannot tell all of it. */
  in(namespace: string): Promise<readonly AccessRule[] | undefined>;
}

/** Rights change seldom; many restores may begin in one namespace at once. */
const REMEMBERED_MS = 60_000;

/** Asks the API server by SelfSubjectRulesReview, once a minute for each namespace at most. */
export class ReviewedRules implements AccessRules {
  readonly #transport: Pick<Transport, "request">;
  readonly #clock: Clock;
  readonly #known = new Map<string, { readonly at: number; readonly rules: readonly AccessRule[] | undefined }>();

  constructor(transport: Pick<Transport, "request">, clock: Clock) {
    this.#transport = transport;
    this.#clock = clock;
  }

  /** @throws ApiError */
  async in(namespace: string): Promise<readonly AccessRule[] | undefined> {
    const now = this.#clock.monotonic();
    for (const [key, { at }] of this.#known) if (now - at >= REMEMBERED_MS) this.#known.delete(key);
    const known = this.#known.get(namespace);
    if (known !== undefined) return known.rules;
    const body = {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SelfSubjectRulesReview",
      spec: { namespace },
    };
    const path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    const answer = await this.#transport.request({ method: "POST", path, body }).catch((error: unknown) => {
      // Whoever may not even ask goes on without knowing.
      if (error instanceof ApiError && (error.status === 403 || error.status === 404)) return undefined;
      throw error;
    });
    const { success, data } = review.safeParse(answer);
    // An authorizer that cannot list its rules may still say yes.
    const rules = success && !data.status.incomplete ? (data.status.resourceRules ?? []) : undefined;
    this.#known.set(namespace, { at: now, rules });
    return rules;
  }
}
