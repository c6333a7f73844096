// The page: facts, the three ways to an input, and the answer.

import { rawOfImage, readImage } from "./image.js";
import { Model } from "./model.js";
import { humanBytes, imageOfRaw, percent, showBars, showImage, showLines } from "./views.js";

const SHOWN_PIXELS = 336; // of the large canvas, about
const MOST_FILE_BYTES = 30e6;
const byId = (id) => document.getElementById(id);

export async function start() {
  const answer = await fetch("demo.json");
  if (!answer.ok) throw new Error(`demo.json: ${answer.status} ${answer.statusText}`);
  const facts = await answer.json();
  showFacts(facts);
  const model = await Model.load("student.onnx", facts.preprocessing);
  const shape = facts.preprocessing.input_shape;
  const isImage = shape.length === 3 && [1, 3].includes(shape[0]);
  const page = new Page(facts, model, isImage);
  page.setUp();
  byId("main").setAttribute("aria-busy", "false");
  if (facts.samples.length) await page.chooseSample(0);
}

class Page {
  #facts;
  #model;
  #isImage;
  #canvas = byId("input");
  #drawn = false; // whether the canvas holds a drawing
  #asked = 0;

  constructor(facts, model, isImage) {
    this.#facts = facts;
    this.#model = model;
    this.#isImage = isImage;
  }

  setUp() {
    const [, height, width] = this.#facts.preprocessing.input_shape;
    const times = Math.max(1, Math.round(SHOWN_PIXELS / Math.max(height, width)));
    this.#canvas.width = this.#isImage ? width * times : 2 * SHOWN_PIXELS;
    this.#canvas.height = this.#isImage ? height * times : 1.5 * SHOWN_PIXELS;
    this.#setUpSamples();
    if (!this.#isImage) return;
    byId("image-tools").hidden = false;
    byId("seen").width = width;
    byId("seen").height = height;
    this.#setUpFiles();
    if (this.#facts.preprocessing.input_shape[0] === 1) this.#setUpDrawing();
    this.#clear();
  }

  // --- samples ------------------------------------------------------------------------------

  #setUpSamples() {
    const { samples, preprocessing } = this.#facts;
    byId("samples-title").hidden = samples.length === 0;
    byId("samples").style.setProperty("--columns", samples.length % 6 ? 5 : 6);
    byId("samples").append(
      ...samples.map(({ label, values }, i) => {
        const button = document.createElement("button");
        button.type = "button";
        button.title = label;
        button.setAttribute("aria-label", `Public example: ${label}`);
        const picture = document.createElement("canvas");
        picture.width = picture.height = 56;
        if (this.#isImage) showImage(picture, imageOfRaw(values, preprocessing));
        else showLines(picture, values, preprocessing.input_shape);
        button.append(picture);
        button.addEventListener("click", () => this.chooseSample(i));
        return button;
      }),
    );
  }

  async chooseSample(index) {
    const { samples, preprocessing } = this.#facts;
    const { label, values } = samples[index];
    if (this.#isImage) showImage(this.#canvas, imageOfRaw(values, preprocessing));
    else showLines(this.#canvas, values, preprocessing.input_shape);
    this.#describe(`Public example: ${label}`);
    await this.#answer(values, label);
  }

  // --- files --------------------------------------------------------------------------------

  #setUpFiles() {
    const stage = byId("stage");
    byId("file").addEventListener("change", (event) => {
      const [file] = event.target.files;
      event.target.value = ""; // the same file may be chosen again
      if (file) this.#readFile(file);
    });
    stage.addEventListener("dragover", (event) => {
      event.preventDefault();
      stage.classList.add("over");
    });
    stage.addEventListener("dragleave", () => stage.classList.remove("over"));
    stage.addEventListener("drop", (event) => {
      event.preventDefault();
      stage.classList.remove("over");
      const [file] = event.dataTransfer.files;
      if (file) this.#readFile(file);
      else this.#tell("What was dropped is no file; drop a PNG or JPEG image.");
    });
    byId("clear").addEventListener("click", () => this.#clear());
  }

  async #readFile(file) {
    if (file.size > MOST_FILE_BYTES) {
      this.#tell(`${file.name} is larger than ${humanBytes(MOST_FILE_BYTES)}; scale it down.`);
      return;
    }
    let image;
    try {
      image = await readImage(file);
    } catch {
      this.#tell(`${file.name} is not an image that this browser can read; give PNG or JPEG.`);
      return;
    }
    showImage(this.#canvas, image);
    this.#describe(`The image ${file.name}`);
    await this.#answer(rawOfImage(image, this.#facts.preprocessing));
  }

  // --- drawing ------------------------------------------------------------------------------

  #setUpDrawing() {
    const canvas = this.#canvas;
    const context = canvas.getContext("2d");
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [
        ((event.clientX - box.left) * canvas.width) / box.width,
        ((event.clientY - box.top) * canvas.height) / box.height,
      ];
    };
    canvas.classList.add("drawable");
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.#drawn) this.#clear();
      this.#drawn = true;
      byId("hint").textContent = "";
      canvas.setPointerCapture(event.pointerId);
      context.lineWidth = canvas.width / 12;
      context.lineCap = context.lineJoin = "round";
      context.strokeStyle = "#fff";
      context.beginPath();
      context.moveTo(...at(event));
      context.lineTo(...at(event));
      context.stroke();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      context.lineTo(...at(event));
      context.stroke();
    });
    canvas.addEventListener("pointerup", () => {
      this.#describe("Your drawing", { drawn: true });
      const image = context.getImageData(0, 0, canvas.width, canvas.height);
      this.#answer(rawOfImage(image, this.#facts.preprocessing));
    });
  }

  #clear() {
    const grey = this.#facts.preprocessing.input_shape[0] === 1;
    for (const canvas of [this.#canvas, byId("seen")]) {
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.fillStyle = "#000";
      context.fillRect(0, 0, canvas.width, canvas.height);
    }
    this.#describe("The input, still empty");
    byId("hint").textContent = grey ? "Draw here, or drop an image" : "Drop an image here";
    this.#asked += 1;
    this.#tell("");
    byId("answer").textContent = "…";
    for (const id of ["sure", "truth"]) byId(id).textContent = "";
    byId("bars").replaceChildren();
  }

  // --- answer -------------------------------------------------------------------------------

  async #answer(raw, truth = "") {
    const { preprocessing, labels } = this.#facts;
    this.#asked += 1;
    const turn = this.#asked;
    this.#tell("");
    if (this.#isImage) showImage(byId("seen"), imageOfRaw(raw, preprocessing));
    byId("bars").setAttribute("aria-busy", "true");
    const probabilities = await this.#model.ask(raw);
    if (turn !== this.#asked) return; // a newer input has come
    const first = showBars(byId("bars"), labels, probabilities);
    byId("answer").textContent = labels[first];
    byId("sure").textContent = percent(probabilities[first]);
    byId("truth").textContent = truth && `This public example is: ${truth}`;
    byId("bars").setAttribute("aria-busy", "false");
    byId("latency").textContent = `${(await this.#model.time(raw)).toPrecision(2)} ms`;
  }

  #describe(text, { drawn = false } = {}) {
    this.#drawn = drawn;
    this.#canvas.setAttribute("aria-label", text);
    byId("hint").textContent = "";
  }

  #tell(text) {
    byId("problem").textContent = text;
    byId("problem").hidden = !text;
  }
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
