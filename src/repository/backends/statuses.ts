/** Whether a request that was answered with this HTTP status may succeed when it is made again (RFC 9110, RFC 6585). */
export function mayPass(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || status >= 500;
}
