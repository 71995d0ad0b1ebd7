import { BlockList, isIP } from "node:net";
import { VmRestoreError } from "../base/errors.ts";

/** A list of addresses that cannot be used. */
export class AddressListError extends VmRestoreError {
  constructor(entry: string) {
    super("NFS_ADDRESS_LIST", `${entry} is neither an address nor a network in CIDR form`, {
      hint: "Write 10.0.0.0/8, 192.0.2.7 or fd00::/8.",
    });
  }
}

/**
 * Which addresses may connect: a second gate only, behind unguessable paths and handles, since what a pod sees of a node is often
 * its gateway's or tunnel's address. An empty list lets everybody through.
 *
 * @param entries addresses, or networks as `10.0.0.0/8`
 * @throws AddressListError
 */
export function addressGate(entries: readonly string[]): (address: string) => boolean {
  if (entries.length === 0) return () => true;
  const list = new BlockList();
  for (const entry of entries) {
    const [network = "", bits, ...rest] = entry.split("/");
    const version = isIP(network);
    const most = version === 4 ? 32 : 128;
    const prefix = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN;
    if (version === 0 || rest.length > 0 || !(prefix <= most)) throw new AddressListError(entry);
    list.addSubnet(network, prefix, version === 4 ? "ipv4" : "ipv6");
  }
  return (address) => {
    // A server that listens on :: sees IPv4 clients in this form.
    const plain = address.replace(/^::ffff:(?=\d+\.)/i, "");
    const version = isIP(plain);
    return version !== 0 && list.check(plain, version === 4 ? "ipv4" : "ipv6");
  };
}
