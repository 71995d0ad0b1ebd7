import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import type { User } from "../reviews/reviews.ts";
import { unauthorized } from "../status-error.ts";

const MASTERS = ["system:masters", "system:authenticated"];
const digest = (text: string) => createHash("sha256").update(text).digest();

/**
 * Who asks: the bearer of the token, or the owner of a client certificate of the server's own authority.
 *
 * @throws StatusError Unauthorized
 */
export function authenticate(request: IncomingMessage, token: string): User {
  const bearer = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (bearer !== undefined && timingSafeEqual(digest(bearer), digest(token))) {
    return { name: "lab-admin", groups: MASTERS };
  }
  const socket = request.socket as TLSSocket;
  if (socket.authorized === true) {
    const name = socket.getPeerCertificate().subject?.CN;
    if (typeof name === "string" && name !== "") return { name, groups: MASTERS };
  }
  throw unauthorized();
}
