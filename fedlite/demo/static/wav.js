// Samples out of a wav file, as `fedlite/serve/wav.py` reads them.

import { LEVELS, asLevel } from "./resample.js";

const [INTEGERS, FLOATS, EXTENSIBLE] = [1, 3, 0xfffe];
const UNKNOWN = 0xffffffff;
const [SLOWEST, FASTEST] = [1000, 384000];
const LOUDEST = 2;

/** Whether bytes are those of a wav file. */
export function isWav(buffer) {
  return buffer.byteLength >= 12 && word(new DataView(buffer), 0) === "RIFF" && word(new DataView(buffer), 8) === "WAVE";
}

/**
 * Samples as whole numbers of 16 bits, channels averaged.
 * @param {ArrayBuffer} buffer
 * @returns {{samples: Float64Array, rate: number}}
 * @throws {Error} whose message says why it is no recording
 */
export function readWav(buffer) {
  const view = new DataView(buffer);
  const chunks = chunksOf(view);
  const { form, channels, rate, bits } = formatOf(view, chunks["fmt "]);
  const read = READERS[`${form} ${bits}`];
  if (!read) throw new Error("is compressed, or of samples that this page does not read");
  const { start = 0, size = 0 } = chunks.data ?? {};
  const frame = (channels * bits) / 8;
  const samples = new Float64Array(Math.floor(size / frame));
  if (!samples.length) throw new Error("holds no sound");
  for (let i = 0; i < samples.length; i += 1) {
    let total = 0;
    for (let c = 0; c < channels; c += 1) {
      const value = read(view, start + i * frame + (c * bits) / 8);
      if (!(Math.abs(value) <= LOUDEST * LEVELS)) throw new Error("holds values that are no samples");
      total += value;
    }
    samples[i] = asLevel(total / channels);
  }
  return { samples, rate };
}

/** Samples in units of 2^-15 of full scale, by format and bits. */
const READERS = {
  [`${INTEGERS} 8`]: (view, at) => (view.getUint8(at) - 128) * 256,
  [`${INTEGERS} 16`]: (view, at) => view.getInt16(at, true),
  [`${INTEGERS} 24`]: (view, at) => (view.getUint8(at) + 256 * view.getInt16(at + 1, true)) / 256,
  [`${INTEGERS} 32`]: (view, at) => view.getInt32(at, true) / 65536,
  [`${FLOATS} 32`]: (view, at) => view.getFloat32(at, true) * LEVELS,
  [`${FLOATS} 64`]: (view, at) => view.getFloat64(at, true) * LEVELS,
};

function word(view, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));
}

function chunksOf(view) {
  const found = {};
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const [name, size] = [word(view, at), view.getUint32(at + 4, true)];
    const start = at + 8;
    const end = name === "data" && size === UNKNOWN ? view.byteLength : start + size;
    if (end > view.byteLength && name === "data") throw new Error("is cut off");
    found[name] ??= { start, size: Math.min(end, view.byteLength) - start };
    at = end + (end % 2);
  }
  return found;
}

function formatOf(view, chunk) {
  if (!chunk || chunk.size < 16) throw new Error("does not say what its samples are");
  const { start, size } = chunk;
  let form = view.getUint16(start, true);
  if (form === EXTENSIBLE && size >= 26) form = view.getUint16(start + 24, true);
  const channels = view.getUint16(start + 2, true);
  const rate = view.getUint32(start + 4, true);
  const bits = view.getUint16(start + 14, true);
  if (!channels || rate < SLOWEST || rate > FASTEST) throw new Error("is no sound");
  return { form, channels, rate, bits };
}
