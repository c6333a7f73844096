// Samples as whole numbers, and at another rate, as `fedlite/serve/resample.py` has them.

import { PI, cosine } from "./exact.js";

export const LEVELS = 2 ** 15;
export const UNIT = 2 ** 20;
const ZEROS = 16;

/** A value rounded to a whole sample, and cut at full scale. */
export function asLevel(value) {
  return Math.max(-LEVELS, Math.min(LEVELS - 1, Math.floor(value + 0.5)));
}

/** Whole-number samples at another rate. */
export function resampled(samples, rate, wanted) {
  if (rate === wanted) return samples;
  const common = divisor(rate, wanted);
  const [up, down] = [wanted / common, rate / common];
  const { reach, taps } = tapsOf(up, down);
  const found = new Float64Array(Math.ceil((samples.length * up) / down));
  for (let i = 0; i < found.length; i += 1) {
    const base = Math.floor((i * down) / up);
    const row = ((i * down) % up) * 2 * reach;
    let total = 0;
    for (let tap = 0; tap < 2 * reach; tap += 1) {
      total += taps[row + tap] * (samples[base + tap + 1 - reach] ?? 0);
    }
    found[i] = asLevel(total / UNIT);
  }
  return found;
}

function divisor(one, other) {
  return other ? divisor(other, one % other) : one;
}

/** Whole-number weights (phases, taps) of the samples around each new one. */
function tapsOf(up, down) {
  const lower = Math.max(up, down);
  const reach = Math.ceil((ZEROS * lower) / up);
  const taps = new Float64Array(up * 2 * reach);
  for (let phase = 0; phase < up; phase += 1) {
    for (let tap = 0; tap < 2 * reach; tap += 1) {
      const before = (tap + 1 - reach) * up - phase;
      if (Math.abs(before) >= ZEROS * lower) continue;
      const angle = (before * PI) / lower;
      const sinc = before === 0 ? 1 : cosine(2 * before - lower, 4 * lower) / angle;
      const hann = 0.5 + 0.5 * cosine(before, 2 * ZEROS * lower);
      taps[phase * 2 * reach + tap] = Math.floor(sinc * hann * (up / lower) * UNIT + 0.5);
    }
  }
  return { reach, taps };
}
