import { RepositoryError } from "../errors.ts";
import { describeFile, type FileName } from "./backend.ts";
import type { HttpAnswer } from "./http-client.ts";

/**
 * That an answer to a request for `[offset, offset + length)` holds exactly those bytes (RFC 9110, section 14).
 *
 * @throws RepositoryError REPOSITORY_OBJECT_DAMAGED where the file ends before, REPOSITORY_UNREACHABLE where the server gave
 *   something else
 */
export function checkRange(answer: HttpAnswer, file: FileName, offset: number, length: number): void {
  const { status, headers, body } = answer;
  const end = offset + length;
  if (status === 200 && offset === 0 && body.length === length) return;
  const found = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(headers["content-range"] ?? "");
  if (status !== 206 || found === null) {
    throw new RepositoryError(
      "REPOSITORY_UNREACHABLE",
      `${describeFile(file)}: the server answers a ranged request with something else (${status})`,
      { hint: "What stands between here and the repository must let ranged requests pass." },
    );
  }
  const [start, last, size] = found.slice(1).map(Number) as [number, number, number];
  if (size < end) {
    throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${describeFile(file)} ends before byte ${end}`, {
      hint: "Run `restic check`: the file was cut off.",
    });
  }
  if (start !== offset || last !== end - 1 || body.length !== length) {
    throw new RepositoryError(
      "REPOSITORY_UNREACHABLE",
      `${describeFile(file)}: ${body.length} bytes from ${start} were given for ${length} from ${offset}`,
    );
  }
}
