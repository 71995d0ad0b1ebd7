/** A `resource.Quantity`: number with a decimal (`m`, `k`, `M`), binary (`Ki`, `Mi`) or exponent suffix. */
const QUANTITY = /^(?<sign>[+-]?)(?<whole>\d*)(?:\.(?<fraction>\d*))?(?<suffix>[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$/;

const BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: readonly (readonly [suffix: string, exponent: number])[] = [
  ["n", -9],
  ["u", -6],
  ["m", -3],
  ["", 0],
  ["k", 3],
  ["M", 6],
  ["G", 9],
  ["T", 12],
  ["P", 15],
  ["E", 18],
];
/** The smallest unit: anything finer is rounded up. */
const NANO = 9;

/** A value in nano units, and how it was written. */
interface Parsed {
  readonly nano: bigint;
  readonly form: "binary" | "decimal" | "exponent";
}

/**
 * The canonical form that the API server stores: no fraction, the largest suffix that fits, the family of suffixes that
 * it came with. `1024Mi` becomes `1Gi`, `0.5` becomes `500m`.
 *
 * @returns undefined for what is no quantity
 */
export function canonicalQuantity(value: string | number): string | undefined {
  const parsed = parse(String(value));
  if (parsed === undefined) return undefined;
  const { nano, form } = parsed;
  if (nano === 0n) return "0";
  const sign = nano < 0n ? "-" : "";
  const size = nano < 0n ? -nano : nano;
  // Small or fractional numbers can't be told in binary units.
  if (form === "binary" && size >= 1024n * 10n ** 9n && size % 10n ** 9n === 0n)
    return sign + inBinary(size / 10n ** 9n);
  return sign + (form === "exponent" ? inExponent(size) : inDecimal(size));
}

/** The value in whole units (bytes, cores), rounded up; undefined for what is no quantity. */
export function quantityValue(value: string | number): bigint | undefined {
  const parsed = parse(String(value));
  if (parsed === undefined) return undefined;
  const unit = 10n ** BigInt(NANO);
  const { nano } = parsed;
  return nano % unit > 0n ? nano / unit + 1n : nano / unit;
}

function parse(text: string): Parsed | undefined {
  const groups = QUANTITY.exec(text.trim())?.groups;
  if (groups === undefined || text.length > 64) return undefined;
  const { sign, whole = "", fraction = "", suffix = "" } = groups;
  if (whole === "" && fraction === "") return undefined;
  const digits = BigInt(`${whole}${fraction}` || "0");
  const signed = sign === "-" ? -digits : digits;
  if (suffix.endsWith("i")) {
    const factor = 1024n ** BigInt(BINARY.indexOf(suffix));
    return { nano: scale(signed * factor, NANO - fraction.length), form: "binary" };
  }
  const decimal = DECIMAL.find(([name]) => name === suffix);
  const exponent = decimal === undefined ? Number(suffix.slice(1)) : decimal[1];
  if (Math.abs(exponent) > 30) return undefined;
  return {
    nano: scale(signed, NANO + exponent - fraction.length),
    form: decimal === undefined ? "exponent" : "decimal",
  };
}

/** `value` × 10^`exponent`, rounded away from zero. */
function scale(value: bigint, exponent: number): bigint {
  if (exponent >= 0) return value * 10n ** BigInt(exponent);
  const divisor = 10n ** BigInt(-exponent);
  const rest = value % divisor;
  return value / divisor + (rest > 0n ? 1n : rest < 0n ? -1n : 0n);
}

function inBinary(size: bigint): string {
  let [left, index] = [size, 0];
  while (left % 1024n === 0n && index < BINARY.length - 1) [left, index] = [left / 1024n, index + 1];
  return `${left}${BINARY[index]}`;
}

function inDecimal(nano: bigint): string {
  let best = `${nano}n`;
  for (const [suffix, exponent] of DECIMAL) {
    const unit = 10n ** BigInt(exponent + NANO);
    if (nano % unit === 0n) best = `${nano / unit}${suffix}`;
  }
  return best;
}

function inExponent(nano: bigint): string {
  let [left, exponent] = [nano, -NANO];
  while (left % 1000n === 0n) [left, exponent] = [left / 1000n, exponent + 3];
  return exponent === 0 ? `${left}` : `${left}e${exponent}`;
}
