import * as z from "zod";

const FACTORS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};
const PATTERN = /^([0-9]+(?:\.[0-9]{1,3})?)(|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)$/;

/** An amount of bytes as Kubernetes writes it (`20Gi`, `1.5T`, `1048576`); the exponent and milli forms are left out. */
export const quantity = z.string().max(24).regex(PATTERN);

/** Bytes, rounded up; undefined for what {@link quantity} does not allow or a number cannot hold exactly. */
export function parseQuantity(text: string): number | undefined {
  const match = PATTERN.exec(text);
  if (match === null) return undefined;
  const bytes = Math.ceil(Number(match[1]) * (FACTORS[match[2] ?? ""] ?? Number.NaN));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The shortest exact form in whole binary units. */
export function formatQuantity(bytes: number): string {
  for (const unit of ["Pi", "Ti", "Gi", "Mi", "Ki"]) {
    const factor = FACTORS[unit] ?? 1;
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return String(bytes);
}
