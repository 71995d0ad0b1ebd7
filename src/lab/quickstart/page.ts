import { setTimeout as delay } from "node:timers/promises";

const TRY_EVERY_MS = 250;
const ANSWER_WITHIN_MS = 3000;

/** The text of a machine's web page, or undefined while it does not answer. */
export async function fetchPage(address: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const within = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_WITHIN_MS)]);
    const answer = await fetch(`http://${address}/`, { signal: within });
    return answer.ok ? textOf(await answer.text()) : undefined;
  } catch {
    return undefined;
  }
}

/** What a page says, without its tags. */
export function textOf(html: string): string {
  return html
    .replace(/<[^>]*>/g, " ")
    .replace(/\s+/g, " ")
    .trim();
}

/**
 * Waits until the page answers. A question that comes before the guest's network is up may hang until it times out, and would hide that
 * the page answers by then: a new one is begun all the time.
 *
 * @param address asked for each time: it is known only once the machine runs
 */
export async function waitForPage(address: () => Promise<string | undefined>, signal: AbortSignal): Promise<string> {
  let page: string | undefined;
  for (;;) {
    const where = await address();
    if (where !== undefined) {
      void fetchPage(where, signal).then((text) => {
        page ??= text;
      });
    }
    await delay(TRY_EVERY_MS, undefined, { signal });
    if (page !== undefined) return page;
  }
}
