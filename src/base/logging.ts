import { type Logger, pino } from "pino";

export type { Logger } from "pino";

/** Keys whose values never reach a log line, at the top and one level down. */
const SECRET_KEYS = ["password", "secretAccessKey", "sessionToken", "token", "key", "exportPath", "authorization"];

/**
 * A JSON logger on standard error (standard output belongs to the command's own result).
 *
 * @param component short name that every line carries, e.g. `media-agent`.
 */
export function createLogger(component: string, level = process.env.VMRESTORE_LOG_LEVEL ?? "info"): Logger {
  return pino(
    {
      level,
      base: { component },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: SECRET_KEYS.flatMap((key) => [key, `*.${key}`]), censor: "[redacted]" },
    },
    pino.destination({ fd: 2, sync: false }),
  );
}

/** A logger that says nothing, for tests and for library use. */
export const silentLogger: Logger = pino({ level: "silent" });
