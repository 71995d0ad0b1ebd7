/**
 * The URL of a worker's module beside the caller's, with the caller's own file ending: `.ts` where Node strips the
 * types itself, `.js` in the built package.
 *
 * @param callerUrl the caller's `import.meta.url`.
 * @param name the module's path relative to the caller, without its ending, e.g. `./decode-worker`.
 */
export function workerUrl(callerUrl: string, name: string): URL {
  const ending = callerUrl.endsWith(".ts") ? ".ts" : ".js";
  return new URL(`${name}${ending}`, callerUrl);
}
