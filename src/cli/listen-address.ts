/** Where a server listens. Without a host: at every address of the machine, IPv4 and IPv6, as far as it has them. */
export interface ListenAddress {
  readonly host?: string;
  readonly port: number;
}

const PORT = "9464";

/** @param text `ip:port`, `[ip]:port` for IPv6, or `:port` for every address; without a port it is 9464 */
export function listenAddress(text: string): ListenAddress {
  const [address = "", port = PORT] = text.split(/:(?=\d+$)/);
  const host = address.replace(/^\[(.*)\]$/, "$1");
  return { port: Number(port), ...(host === "" ? {} : { host }) };
}
