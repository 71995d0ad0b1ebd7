import { isIP, isIPv6 } from "node:net";
import { VmRestoreError } from "../base/errors.ts";

/** Where a server listens. Without a host: at every address of the machine, IPv4 and IPv6, as far as it has them. */
export interface ListenAddress {
  readonly host?: string;
  readonly port: number;
}

const PORT = 9464;
const MOST = 65_535;

/**
 * @param text `ip:port`, `[ip]:port` for IPv6, or `:port` for every address; without a port it is 9464. `localhost` counts as an ip.
 * @throws VmRestoreError LISTEN_ADDRESS_INVALID
 */
export function listenAddress(text: string): ListenAddress {
  // Two colons, and no brackets: which of them is the port's cannot be told.
  if (isIPv6(text)) throw invalid(text, `write an IPv6 address in brackets: [${text}]:${PORT}`);
  const parts = /^(?:\[(?<v6>[^[\]]*)\]|(?<name>[^:[\]]*))(?::(?<port>.*))?$/s.exec(text)?.groups;
  const { v6, name = "", port } = parts ?? {};
  const isHost = v6 === undefined ? name === "" || name === "localhost" || isIP(name) === 4 : isIPv6(v6);
  if (parts === undefined || !isHost || text === "")
    throw invalid(text, "give ip:port, [ip]:port for IPv6, or :port for every address of the machine");
  const number = port === undefined ? PORT : Number(port);
  if (port !== undefined && (!/^\d+$/.test(port) || number > MOST))
    throw invalid(text, `give a port from 0 (any free one) to ${MOST}`);
  const host = v6 ?? name;
  return { port: number, ...(host === "" ? {} : { host }) };
}

function invalid(text: string, hint: string): VmRestoreError {
  return new VmRestoreError("LISTEN_ADDRESS_INVALID", `--listen ${JSON.stringify(text)} is no address to listen at`, {
    hint,
  });
}
