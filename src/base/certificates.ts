import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/** PEM. */
export interface KeyPair {
  readonly key: string;
  readonly cert: string;
}

/** Makes certificates of one authority, whose key is thrown away with it: nobody can make another one later. */
export interface Authority {
  /** PEM of the authority's certificate. */
  readonly ca: string;
  /** @param addresses DNS names and IP addresses that a server is reached by; none for a client */
  issue(commonName: string, addresses: readonly string[]): Promise<KeyPair>;
}

/** @param validity how long everything it makes is valid */
export async function createAuthority(
  commonName: string,
  validity: { readonly from: Date; readonly to: Date },
): Promise<Authority> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${commonName}`,
    keys,
    signingAlgorithm: ALGORITHM,
    notBefore: validity.from,
    notAfter: validity.to,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  return {
    ca: certificate.toString("pem"),
    async issue(name, addresses) {
      const own = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
      const isServer = addresses.length > 0;
      const issued = await x509.X509CertificateGenerator.create({
        subject: `CN=${name}`,
        issuer: certificate.subject,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: ALGORITHM,
        notBefore: validity.from,
        notAfter: validity.to,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([
            isServer ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth,
          ]),
          ...(isServer
            ? [
                new x509.SubjectAlternativeNameExtension(
                  addresses.map((value) => ({ type: /^[\d.]+$|:/.test(value) ? "ip" : "dns", value })),
                ),
              ]
            : []),
        ],
      });
      const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", own.privateKey)).toString("base64");
      const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.match(/.{1,64}/g)?.join("\n")}\n-----END PRIVATE KEY-----\n`;
      return { key, cert: issued.toString("pem") };
    },
  };
}
