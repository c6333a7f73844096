// The model: loaded, asked, and timed.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import { normalise } from "./image.js";

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

const CALLS = 10; // timed together: browsers round their clocks
const ROUNDS = 9;
const MOST_MS = 300;

export class Model {
  #session;
  #preprocessing;
  #temperature;
  #turn = Promise.resolve(); // a session answers one call at a time

  static async load(path, preprocessing, temperature) {
    const model = new Model();
    model.#session = await ort.InferenceSession.create(path, { executionProviders: ["wasm"] });
    model.#preprocessing = preprocessing;
    model.#temperature = temperature;
    return model;
  }

  /** Probabilities of the classes for one raw example. */
  ask(raw) {
    return this.#inTurn(async () => {
      const result = await this.#session.run(this.#feeds(raw));
      return softmax(Array.from(result[this.#session.outputNames[0]].data), this.#temperature);
    });
  }

  /**
   * Milliseconds of one call: the median over rounds, in each the mean of some calls; no more
   * rounds once `stop()` holds.
   */
  time(raw, stop) {
    return this.#inTurn(async () => {
      const feeds = this.#feeds(raw);
      const times = [];
      const start = performance.now();
      do {
        const before = performance.now();
        for (let call = 0; call < CALLS; call += 1) await this.#session.run(feeds);
        times.push((performance.now() - before) / CALLS);
      } while (times.length < ROUNDS && performance.now() - start < MOST_MS && !stop());
      times.sort((a, b) => a - b);
      return times[Math.floor(times.length / 2)];
    });
  }

  #feeds(raw) {
    const shape = [1, ...this.#preprocessing.input_shape];
    const input =
      this.#preprocessing.kind === "tokens"
        ? new ort.Tensor("int64", BigInt64Array.from(raw, BigInt), shape)
        : new ort.Tensor("float32", normalise(raw, this.#preprocessing), shape);
    return { [this.#session.inputNames[0]]: input };
  }

  #inTurn(work) {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }
}

function softmax(logits, temperature) {
  const highest = Math.max(...logits);
  const odds = logits.map((logit) => Math.exp((logit - highest) / temperature));
  const total = odds.reduce((sum, one) => sum + one, 0);
  return odds.map((one) => one / total);
}
