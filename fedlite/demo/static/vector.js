// Rows of numbers as input: a slider for each, as far as the public examples go.

import { number } from "./views.js";

const THUMBNAIL = [72, 44];
const WIDEST = 2.5; // standard deviations that a bar of a thumbnail shows
const STEPS = 200;
const byId = (id) => document.getElementById(id);

export class VectorInput {
  #preprocessing;
  #sliders;

  constructor({ preprocessing, typical }, { ask }) {
    this.#preprocessing = preprocessing;
    byId("stage").hidden = true;
    byId("sliders").hidden = false;
    const [length] = preprocessing.input_shape;
    this.#sliders = Array.from({ length }, (_, i) => slider(preprocessing.columns?.[i] ?? `value ${i + 1}`, this.#range(i, typical)));
    byId("sliders").append(...this.#sliders.map(({ row }) => row));
    const raw = () => this.#sliders.map(({ value }) => value());
    byId("sliders").addEventListener("input", () => ask({ raw, passing: true }));
    byId("sliders").addEventListener("change", () => ask({ raw }));
  }

  show(values) {
    values.forEach((value, i) => this.#sliders[i].set(value));
  }

  /** Bars up and down from the mean, in standard deviations. */
  thumbnail(canvas, values) {
    [canvas.width, canvas.height] = THUMBNAIL;
    const { scale, mean, std } = this.#preprocessing;
    const context = canvas.getContext("2d");
    const [width, middle] = [canvas.width / values.length, canvas.height / 2];
    context.fillStyle = "#0b1110";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#5eead4";
    values.forEach((value, i) => {
      const away = (value / scale - mean[i]) / std[i] / WIDEST;
      const height = Math.max(-1, Math.min(1, away)) * middle;
      const top = middle - Math.max(0, height);
      context.fillRect(i * width, top, Math.max(1, width - 1), Math.abs(height) + 1);
    });
  }

  #range(i, typical) {
    if (typical) return typical[i];
    const { scale, mean, std } = this.#preprocessing;
    const [low, high] = [-3, 3].map((times) => (mean[i] + times * std[i]) * scale);
    return { low, high, whole: false };
  }
}

function slider(title, { low, high, whole }) {
  const row = document.createElement("label");
  const name = document.createElement("span");
  name.textContent = title;
  const input = document.createElement("input");
  input.type = "range";
  const shown = document.createElement("output");
  let exact = low;
  const set = (value) => {
    exact = value;
    input.min = Math.min(low, value);
    input.max = Math.max(high, value);
    input.step = whole ? 1 : "any";
    input.value = value;
    shown.textContent = number(value);
  };
  set((low + high) / 2);
  input.addEventListener("input", () => {
    exact = whole ? Math.round(input.value) : Number(input.value);
    shown.textContent = number(exact);
  });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!step || whole) return; // a step of "any" would be none
    event.preventDefault();
    const next = exact + (step * (high - low)) / STEPS;
    set(Math.max(Number(input.min), Math.min(Number(input.max), next)));
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  row.append(name, input, shown);
  return { row, set, value: () => exact };
}
