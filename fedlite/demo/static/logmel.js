// From samples to a log-mel spectrogram, bit for bit as `fedlite/serve/logmel.py` makes it.

import { cosine, logarithm } from "./exact.js";
import { LEVELS, UNIT, resampled } from "./resample.js";

const LEAST_POWER = 1e-30;
const DECIBELS = 4.342944819032518; // 10 / ln 10

/** Spectrograms of clips, by the numbers under `sound` in `preprocessing.json`. */
export class LogMel {
  #front;
  #points;
  #table;
  #triangles;

  constructor(front) {
    this.#front = front;
    this.#points = 1;
    while (this.#points < front.window) this.#points *= 2;
    this.#table = this.#waves();
    this.#triangles = this.#bands();
  }

  /**
   * Decibels, band by band, the lowest first.
   * @param {ArrayLike<number>} clip `samples` whole numbers
   */
  spectrogram(clip) {
    const { samples, window, hop, floor } = this.#front;
    const frames = 1 + Math.floor((samples - window) / hop);
    const found = new Float32Array(this.#triangles.length * frames);
    for (let frame = 0; frame < frames; frame += 1) {
      const power = this.#power(clip, frame * hop);
      this.#triangles.forEach(({ first, weights }, band) => {
        let sum = 0;
        for (let i = 0; i < weights.length; i += 1) sum += weights[i] * power[first + i];
        const decibels = logarithm(Math.max(sum, LEAST_POWER)) * DECIBELS;
        found[band * frames + frame] = Math.max(decibels, floor);
      });
    }
    return found;
  }

  /** A sine of full scale has 1. */
  #power(clip, start) {
    const { window } = this.#front;
    const sine = (LEVELS * UNIT * window) / 4;
    const count = this.#points / 2 + 1;
    const found = new Float64Array(count);
    for (let k = 0; k < count; k += 1) {
      let [real, imaginary] = [0, 0];
      for (let i = 0, row = 2 * k * window; i < window; i += 1) {
        real += clip[start + i] * this.#table[row + i];
        imaginary += clip[start + i] * this.#table[row + window + i];
      }
      found[k] = (real * real + imaginary * imaginary) / (sine * sine);
    }
    return found;
  }

  /** For each frequency a row of windowed cosines and one of sines, as whole numbers. */
  #waves() {
    const { window } = this.#front;
    const points = this.#points;
    const hann = Float64Array.from({ length: window }, (_, i) => 0.5 - 0.5 * cosine(i, window));
    const cosines = Float64Array.from({ length: points }, (_, i) => cosine(i, points));
    const sines = Float64Array.from({ length: points }, (_, i) => cosine(4 * i - points, 4 * points));
    const table = new Float64Array((points / 2 + 1) * 2 * window);
    for (let k = 0; k <= points / 2; k += 1) {
      for (let i = 0; i < window; i += 1) {
        const turn = (i * k) % points;
        table[2 * k * window + i] = Math.floor(hann[i] * cosines[turn] * UNIT + 0.5);
        table[(2 * k + 1) * window + i] = Math.floor(hann[i] * sines[turn] * UNIT + 0.5);
      }
    }
    return table;
  }

  /** Of each band the first frequency above 0, and the weights from there on. */
  #bands() {
    const { rate, edges } = this.#front;
    return edges.slice(2).map((high, band) => {
      const [low, tip] = edges.slice(band);
      const weights = Array.from({ length: this.#points / 2 + 1 }, (_, k) => {
        const at = (k * rate) / this.#points;
        return Math.max(0, Math.min((at - low) / (tip - low), (high - at) / (high - tip)));
      });
      const first = Math.max(0, weights.findIndex((weight) => weight > 0));
      const end = weights.findLastIndex((weight) => weight > 0) + 1;
      return { first, weights: weights.slice(first, end) };
    });
  }
}

/**
 * The clip that a model hears of a recording: at its rate, the loudest stretch of what is longer,
 * what is shorter in the middle of silence.
 */
export function clipOf({ samples: recorded, rate }, front) {
  const samples = resampled(recorded, rate, front.rate);
  const clip = new Float64Array(front.samples);
  const missing = front.samples - samples.length;
  if (missing >= 0) {
    clip.set(samples, Math.floor(missing / 2));
    return clip;
  }
  const energy = new Float64Array(samples.length + 1);
  for (let i = 0; i < samples.length; i += 1) energy[i + 1] = energy[i] + samples[i] * samples[i];
  let [loudest, best] = [0, -1];
  for (let start = 0; start <= -missing; start += front.hop) {
    const found = energy[start + front.samples] - energy[start];
    if (found > best) [loudest, best] = [start, found];
  }
  clip.set(samples.subarray(loudest, loudest + front.samples));
  return clip;
}
