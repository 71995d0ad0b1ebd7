/** The two functions of libsodium that restic's MAC needs; the package ships no types. */
declare module "sodium-native" {
  const sodium: {
    crypto_onetimeauth(out: Uint8Array, message: Uint8Array, key: Uint8Array): void;
    crypto_onetimeauth_verify(mac: Uint8Array, message: Uint8Array, key: Uint8Array): boolean;
  };
  export default sodium;
}
