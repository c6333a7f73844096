// From pixels to the model's input, bit for bit as `fedlite predict` does it with Pillow.

const BITS = 22; // of the fixed-point weights: 32 less 8 of a pixel, less 2 to spare

/**
 * Raw values of an image, channels first, of the full range 0..scale.
 * @param {ImageData} image opaque RGBA pixels
 * @param {{input_shape: number[], scale: number}} preprocessing
 * @param {{invert?: boolean}} options `invert` swaps dark and light
 * @returns {Float32Array}
 */
export function rawOfImage(image, { input_shape: shape, scale }, { invert = false } = {}) {
  const [channels, height, width] = shape;
  const planes = channels === 1 ? [grey(image)] : [0, 1, 2].map((c) => channel(image, c));
  const raw = new Float32Array(channels * height * width);
  planes.forEach((plane, c) => {
    if (invert) plane.forEach((value, i) => (plane[i] = 255 - value));
    const fitted = fit(plane, image.width, image.height, width, height);
    fitted.forEach((value, i) => {
      raw[c * height * width + i] = Math.fround(value / 255) * scale;
    });
  });
  return raw;
}

/** (raw / scale - mean) / std, each step in 32-bit floats. */
export function normalise(raw, { input_shape: shape, scale, mean, std }) {
  const each = raw.length / shape[0];
  return Float32Array.from(raw, (value, i) => {
    const c = Math.floor(i / each);
    const shifted = Math.fround(Math.fround(value) / Math.fround(scale)) - Math.fround(mean[c]);
    return Math.fround(shifted) / Math.fround(std[c]);
  });
}

/** Luma of ITU-R 601-2 in 16-bit fixed point. */
function grey({ data }) {
  const plane = new Uint8Array(data.length / 4);
  for (let i = 0, from = 0; i < plane.length; i += 1, from += 4) {
    const luma = data[from] * 19595 + data[from + 1] * 38470 + data[from + 2] * 7471;
    plane[i] = (luma + 0x8000) >> 16;
  }
  return plane;
}

function channel({ data }, c) {
  const plane = new Uint8Array(data.length / 4);
  for (let i = 0; i < plane.length; i += 1) plane[i] = data[4 * i + c];
  return plane;
}

/**
 * A plane of bytes scaled into another size with its aspect, in the middle; what is left is filled
 * with the median of its border.
 */
export function fit(plane, width, height, newWidth, newHeight) {
  const [wide, high] = fittedSize(width, height, newWidth, newHeight);
  const scaled = resize(plane, width, height, wide, high);
  if (wide === newWidth && high === newHeight) return scaled;
  const whole = new Uint8Array(newWidth * newHeight).fill(median(outermost(plane, width, height)));
  const [left, top] = [Math.floor((newWidth - wide) / 2), Math.floor((newHeight - high) / 2)];
  for (let y = 0; y < high; y += 1) {
    whole.set(scaled.subarray(y * wide, (y + 1) * wide), (top + y) * newWidth + left);
  }
  return whole;
}

/** The largest size within `newWidth` x `newHeight` of the old aspect, as whole pixels. */
export function fittedSize(width, height, newWidth, newHeight) {
  if (width * newHeight >= height * newWidth) {
    return [newWidth, Math.max(1, Math.floor((2 * height * newWidth + width) / (2 * width)))];
  }
  return [Math.max(1, Math.floor((2 * width * newHeight + height) / (2 * height))), newHeight];
}

/** The outermost bytes of a plane: its first and last row, and the ends of those between. */
function outermost(plane, width, height) {
  const edge = [...plane.subarray(0, width), ...plane.subarray((height - 1) * width)];
  for (let y = 1; y < height - 1; y += 1) edge.push(plane[y * width], plane[(y + 1) * width - 1]);
  return edge;
}

/** The outermost bytes of a channel of an image. */
export function edges(image, c) {
  return outermost(channel(image, c), image.width, image.height);
}

/** The upper median. */
export function median(bytes) {
  return Uint8Array.from(bytes).sort()[bytes.length >> 1];
}

/** The image with dark and light swapped. */
export function negative({ data, width, height }) {
  const turned = new ImageData(width, height);
  data.forEach((value, i) => (turned.data[i] = i % 4 === 3 ? value : 255 - value));
  return turned;
}

/**
 * A plane of bytes at another size: triangle filter, as wide as the reduction, first along rows,
 * then along columns, rounded to bytes after each.
 */
export function resize(plane, width, height, newWidth, newHeight) {
  let found = plane;
  if (width !== newWidth) {
    const next = new Uint8Array(newWidth * height);
    weights(width, newWidth).forEach(({ first, parts }, x) => {
      for (let y = 0; y < height; y += 1) {
        next[y * newWidth + x] = blend(found, y * width + first, 1, parts);
      }
    });
    found = next;
  }
  if (height !== newHeight) {
    const next = new Uint8Array(newWidth * newHeight);
    weights(height, newHeight).forEach(({ first, parts }, y) => {
      for (let x = 0; x < newWidth; x += 1) {
        next[y * newWidth + x] = blend(found, first * newWidth + x, newWidth, parts);
      }
    });
    found = next;
  }
  return found;
}

function blend(plane, start, step, parts) {
  let sum = 1 << (BITS - 1);
  for (let i = 0; i < parts.length; i += 1) sum += plane[start + i * step] * parts[i];
  return Math.max(0, Math.min(255, sum >> BITS));
}

/** For each new position the first old one and the fixed-point shares of it and its followers. */
function weights(size, newSize) {
  const scale = size / newSize;
  const reach = Math.max(scale, 1);
  return Array.from({ length: newSize }, (_, position) => {
    const center = (position + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const end = Math.min(size, Math.trunc(center + reach + 0.5));
    const shares = [];
    for (let i = first; i < end; i += 1) {
      shares.push(Math.max(0, 1 - Math.abs((i - center + 0.5) / reach)));
    }
    const total = shares.reduce((sum, share) => sum + share, 0);
    return { first, parts: shares.map((share) => Math.trunc(0.5 + (share / total) * 2 ** BITS)) };
  });
}

/**
 * The pixels of an image file, upright, transparency on black.
 * @param {Blob} file
 * @returns {Promise<ImageData>}
 */
export async function readImage(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
