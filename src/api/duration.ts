import * as z from "zod";

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const PATTERN = /^(?:[0-9]+(?:\.[0-9]{1,3})?(?:ms|s|m|h))+$/;

/** A length of time as Go and Kubernetes write it: `30s`, `10m`, `1h30m`. */
export const duration = z.string().max(24).regex(PATTERN);

/** Milliseconds; throws a RangeError for what {@link duration} does not allow. */
export function parseDuration(text: string): number {
  if (!PATTERN.test(text)) throw new RangeError(`not a duration: ${text}`);
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/([0-9.]+)(ms|s|m|h)/g))
    total += Number(amount) * (UNITS[unit ?? ""] ?? 0);
  return Math.round(total);
}

/** Rounded to a tenth of a second below a minute, to whole seconds above. */
export function formatDuration(milliseconds: number): string {
  const tenths = Math.round(Math.max(0, milliseconds) / 100);
  if (tenths < 600) return `${tenths / 10}s`;
  const seconds = Math.round(milliseconds / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 3600), "h"],
    [Math.floor((seconds % 3600) / 60), "m"],
    [seconds % 60, "s"],
  ];
  return parts
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount}${unit}`)
    .join("");
}
