// Cosine and logarithm of which every bit is fixed, as `fedlite/serve/exact.py` has them.

const LN_2 = 0.6931471805599453;
const SQRT_HALF = 0.7071067811865476;
const COSINE_TERMS = 12;
const LOG_TERMS = 11;
export const PI = 3.141592653589793;

/** cos(2 pi numerator / denominator) of whole numbers. */
export function cosine(numerator, denominator) {
  let part = Math.abs(numerator) % denominator;
  part = Math.min(part, denominator - part);
  const beyond = 4 * part > denominator;
  const within = beyond ? denominator - 2 * part : 2 * part;
  const angle = (within * PI) / denominator;
  const square = angle * angle;
  let series = 1;
  for (let term = COSINE_TERMS; term > 0; term -= 1) {
    series = 1 - (series * square) / ((2 * term - 1) * (2 * term));
  }
  return beyond ? -series : series;
}

const double = new Float64Array(1);
const halves = new Uint32Array(double.buffer); // the low one first: WebAssembly runs nowhere else

/** The natural logarithm of a positive normal number. */
export function logarithm(value) {
  double[0] = value;
  let exponent = ((halves[1] >>> 20) & 0x7ff) - 1022;
  halves[1] = (halves[1] & 0x800fffff) | (1022 << 20);
  let mantissa = double[0];
  if (mantissa < SQRT_HALF) {
    mantissa *= 2;
    exponent -= 1;
  }
  const ratio = (mantissa - 1) / (mantissa + 1);
  const square = ratio * ratio;
  let series = 0;
  for (let term = LOG_TERMS - 1; term >= 0; term -= 1) series = series * square + 1 / (2 * term + 1);
  return exponent * LN_2 + 2 * ratio * series;
}
