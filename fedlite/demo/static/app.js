// The page: facts, public examples, and the answer to the newest input.

import { Model } from "./model.js";
import { PictureInput } from "./picture.js";
import { MapInput, SeriesInput } from "./plots.js";
import { SoundInput } from "./sound.js";
import { TextInput } from "./text.js";
import { unlikeness } from "./typical.js";
import { VectorInput } from "./vector.js";
import { humanBytes, percent, showBars } from "./views.js";

const INPUTS = {
  picture: PictureInput,
  map: MapInput,
  sound: SoundInput,
  series: SeriesInput,
  vector: VectorInput,
  text: TextInput,
};
const byId = (id) => document.getElementById(id);

export async function start() {
  const answer = await fetch("demo.json");
  if (!answer.ok) throw new Error(`demo.json: ${answer.status} ${answer.statusText}`);
  const facts = await answer.json();
  showFacts(facts);
  const model = await Model.load("student.onnx", facts.preprocessing, facts.temperature);
  const page = new Page(facts, model);
  byId("main").setAttribute("aria-busy", "false");
  if (facts.samples.length) await page.chooseSample(0);
}

class Page {
  #facts;
  #model;
  #input;
  #newest = null; // what is to be answered next
  #turn = 0; // goes up with everything that makes earlier inputs stale
  #working = null;

  constructor(facts, model) {
    this.#facts = facts;
    this.#model = model;
    this.#input = new INPUTS[facts.kind](facts, {
      ask: (asked) => this.#ask(asked),
      clear: () => this.#clear(),
      tell,
    });
    this.#setUpSamples();
  }

  #setUpSamples() {
    const { kind, samples } = this.#facts;
    byId("samples-panel").hidden = samples.length === 0;
    const columns = kind === "picture" ? (samples.length % 6 ? 5 : 6) : 3;
    byId("samples").style.setProperty("--columns", columns);
    byId("samples").append(
      ...samples.map(({ label, values }, i) => {
        const button = document.createElement("button");
        button.type = "button";
        button.title = label;
        button.setAttribute("aria-label", `Public example: ${label}`);
        const picture = document.createElement("canvas");
        this.#input.thumbnail(picture, values);
        const name = document.createElement("span");
        name.textContent = label;
        button.append(picture, name);
        button.addEventListener("click", () => this.chooseSample(i));
        return button;
      }),
    );
  }

  chooseSample(index) {
    const { label, values } = this.#facts.samples[index];
    this.#input.show(values, `Public example: ${label}`);
    return this.#ask({ raw: () => values, truth: label });
  }

  /**
   * Answer the newest input; those that come while one is computed are passed over but for the last.
   * @param {{raw: () => ArrayLike<number>, truth?: string, passing?: boolean}} asked `passing`: more
   *   is to come, as within the stroke of a drawing
   */
  #ask(asked) {
    this.#newest = asked;
    tell("");
    byId("bars").setAttribute("aria-busy", "true");
    this.#working ??= this.#work().finally(() => {
      this.#working = null;
    });
    return this.#working;
  }

  async #work() {
    while (this.#newest) {
      const { raw: rawOf, truth = "", passing = false } = this.#newest;
      this.#newest = null;
      const turn = this.#turn;
      const raw = rawOf();
      const probabilities = await this.#model.ask(raw);
      if (turn !== this.#turn) continue;
      this.#show(probabilities, raw, truth, passing);
      if (this.#newest || passing) continue;
      byId("bars").setAttribute("aria-busy", "false");
      const milliseconds = await this.#model.time(raw, () => this.#newest !== null);
      byId("latency").textContent = `${milliseconds.toPrecision(2)} ms`;
    }
  }

  #show(probabilities, raw, truth, passing) {
    const { labels } = this.#facts;
    const first = showBars(byId("bars"), labels, probabilities);
    byId("answer").textContent = labels[first];
    byId("sure").textContent = percent(probabilities[first]);
    byId("truth").textContent = truth && `This public example is: ${truth}`;
    const unlike = truth || passing ? "" : unlikeness(raw, this.#facts);
    byId("unlike").textContent = unlike;
    byId("unlike").hidden = !unlike;
  }

  #clear() {
    this.#turn += 1;
    this.#newest = null;
    tell("");
    byId("answer").textContent = "…";
    for (const id of ["sure", "truth", "unlike"]) byId(id).textContent = "";
    byId("unlike").hidden = true;
    byId("bars").replaceChildren();
  }
}

function tell(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

function showFacts({ dataset, student, file, accuracy, native, privacy, labels }) {
  document.title = `${dataset}: ${student}`;
  byId("origin").textContent = `fedlite demo · ${dataset} · ${student}`;
  byId("title").textContent = `${labels.length} classes in ${humanBytes(file.bytes)}`;
  byId("size").textContent = humanBytes(file.bytes);
  byId("size-note").textContent = `ONNX, ${file.precision}`;
  byId("latency-note").textContent =
    "here; the model call alone, median, one thread" +
    (native ? `. Measured natively: ${native.milliseconds.toPrecision(2)} ms` : "");
  byId("accuracy").textContent = accuracy ? percent(accuracy.value) : "not measured";
  byId("accuracy-note").textContent = accuracy
    ? `${percent(accuracy.low)} to ${percent(accuracy.high)} with 95% confidence, ` +
      `on ${accuracy.examples.toLocaleString("en")} test examples`
    : "";
  byId("privacy").textContent = privacy.text;
  byId("privacy").classList.toggle("warning", !privacy.holds);
}
