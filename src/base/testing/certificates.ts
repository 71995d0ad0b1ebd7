import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const DAY_MS = 24 * 3600 * 1000;

type KeyPair = webcrypto.CryptoKeyPair;

/** PEM texts of one side of a mutual TLS connection. */
export interface TestIdentity {
  readonly cert: string;
  readonly key: string;
  /** The authority's certificate. */
  readonly ca: string;
}

/** A certificate authority for tests: valid for a day around now. */
export class TestAuthority {
  readonly #keys: KeyPair;
  readonly #certificate: x509.X509Certificate;
  #serial = 2;

  private constructor(keys: KeyPair, certificate: x509.X509Certificate) {
    this.#keys = keys;
    this.#certificate = certificate;
  }

  static async create(name = "test authority"): Promise<TestAuthority> {
    x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);
    const keys = await generateKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: "01",
      name: `CN=${name}`,
      ...validity(),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      ],
    });
    return new TestAuthority(keys, certificate);
  }

  get ca(): string {
    return this.#certificate.toString("pem");
  }

  /** A certificate for both sides, good for `localhost`, 127.0.0.1 and the common name. */
  async issue(commonName: string): Promise<TestIdentity> {
    const keys = await generateKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: (this.#serial++).toString(16).padStart(2, "0"),
      subject: `CN=${commonName}`,
      issuer: this.#certificate.subject,
      ...validity(),
      signingAlgorithm: ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      extensions: leafExtensions(commonName),
    });
    return { cert: certificate.toString("pem"), key: await privatePem(keys), ca: this.ca };
  }
}

/** A certificate that no authority has signed: what a stranger would show. */
export async function selfSigned(commonName: string, ca: string): Promise<TestIdentity> {
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: `CN=${commonName}`,
    ...validity(),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: leafExtensions(commonName),
  });
  return { cert: certificate.toString("pem"), key: await privatePem(keys), ca };
}

function leafExtensions(commonName: string): x509.Extension[] {
  return [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH]),
    new x509.SubjectAlternativeNameExtension([
      { type: "dns", value: commonName },
      { type: "dns", value: "localhost" },
      { type: "ip", value: "127.0.0.1" },
    ]),
  ];
}

function validity(): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + DAY_MS) };
}

function generateKeys(): Promise<KeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as Promise<KeyPair>;
}

async function privatePem(keys: KeyPair): Promise<string> {
  const der = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return x509.PemConverter.encode(der as ArrayBuffer, "PRIVATE KEY");
}
