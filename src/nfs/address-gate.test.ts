import { expect, test } from "@jest/globals";
import { addressGate } from "./address-gate.ts";

test("lets through what is on the list, in each form in which it may be seen", () => {
  const allows = addressGate(["10.1.0.0/16", "192.0.2.7", "fd00::/8", "0.0.0.0/32"]);
  for (const address of ["10.1.255.3", "::ffff:10.1.0.1", "192.0.2.7", "fd12:3456::1", "::FFFF:192.0.2.7"])
    expect([address, allows(address)]).toEqual([address, true]);
  for (const address of ["10.2.0.1", "::ffff:10.2.0.1", "192.0.2.8", "fe80::1", "", "10.1.0.1.evil", "::1"])
    expect([address, allows(address)]).toEqual([address, false]);
});

test("an empty list is off, and a whole family can be let through", () => {
  expect(addressGate([])("203.0.113.1")).toBe(true);
  expect(addressGate(["0.0.0.0/0"])("203.0.113.1")).toBe(true);
  expect(addressGate(["0.0.0.0/0"])("2001:db8::1")).toBe(false);
});

test.each(["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8/8", "example.org", "10.0.0/8", "::/129", "", "10.0.0.0/-1"])(
  "refuses %p as an entry",
  (entry) => {
    expect(() => addressGate([entry])).toThrow(expect.objectContaining({ code: "NFS_ADDRESS_LIST" }));
  },
);
