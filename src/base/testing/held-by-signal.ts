import { getEventListeners } from "node:events";

/** How many things hang on a signal, of all kinds: whoever waits with a signal that lives long must leave none. */
export function heldBy(signal: AbortSignal): number {
  const parts: Record<symbol, unknown> = Object(signal);
  const sizes = Object.getOwnPropertySymbols(signal).map((key) => {
    const size: unknown = Object(parts[key]).size;
    return typeof size === "number" ? size : 0;
  });
  return sizes.reduce((sum, size) => sum + size, 0) + getEventListeners(signal, "abort").length;
}
