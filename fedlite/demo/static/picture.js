// Pictures as input: drawn, chosen or dropped, and turned into their negatives.

import { takeFiles } from "./files.js";
import { edges, fittedSize, median, negative, rawOfImage, readImage } from "./image.js";
import { humanBytes } from "./views.js";

const SHOWN_PIXELS = 384; // of the large canvas, about
const THUMBNAIL_PIXELS = 56;
const MOST_FILE_BYTES = 30e6;
const byId = (id) => document.getElementById(id);

export class PictureInput {
  #preprocessing;
  #page;
  #canvas = byId("input");
  #context;
  #light; // whether it is drawn dark on light
  #drawn = false; // whether the canvas holds a drawing
  #chosen = null; // or else what was chosen, and whether it is shown as its negative

  constructor({ preprocessing }, page) {
    this.#preprocessing = preprocessing;
    this.#page = page;
    const [channels, height, width] = preprocessing.input_shape;
    const times = Math.max(1, Math.round(SHOWN_PIXELS / Math.max(height, width)));
    this.#canvas.width = width * times;
    this.#canvas.height = height * times;
    this.#context = this.#canvas.getContext("2d", { willReadFrequently: true });
    byId("image-tools").hidden = false;
    byId("seen").width = width;
    byId("seen").height = height;
    byId("clear").addEventListener("click", () => this.#clear());
    byId("invert").addEventListener("click", () => this.#invert());
    this.#setUpFiles();
    if (channels === 1) this.#setUpDrawing();
    this.#clear();
  }

  /** Show raw values, channels first. */
  show(values, description) {
    this.#choose({ values }, description);
  }

  thumbnail(canvas, values) {
    const image = imageOfRaw(values, this.#preprocessing);
    const times = THUMBNAIL_PIXELS / Math.max(image.width, image.height);
    canvas.width = Math.max(1, Math.round(image.width * times));
    canvas.height = Math.max(1, Math.round(image.height * times));
    paint(canvas, image);
  }

  #choose(chosen, description) {
    this.#chosen = { ...chosen, inverted: false };
    this.#describe(description, { drawn: false });
    this.#showChosen();
  }

  #showChosen() {
    const { values, image, inverted } = this.#chosen;
    const shown = image ?? imageOfRaw(values, this.#preprocessing);
    paint(this.#canvas, inverted ? negative(shown) : shown);
    this.#see(this.#rawOfChosen());
  }

  #rawOfChosen() {
    const { values, image, inverted } = this.#chosen;
    const { scale } = this.#preprocessing;
    if (image) return rawOfImage(image, this.#preprocessing, { invert: inverted });
    return inverted ? values.map((value) => scale - value) : values;
  }

  #see(raw) {
    paint(byId("seen"), imageOfRaw(raw, this.#preprocessing));
    return raw;
  }

  #invert() {
    if (this.#chosen) {
      this.#chosen.inverted = !this.#chosen.inverted;
      this.#showChosen();
      const raw = this.#rawOfChosen();
      this.#page.ask({ raw: () => raw });
      return;
    }
    this.#light = !this.#light;
    this.#context.putImageData(negative(this.#pixels()), 0, 0);
    this.#see(this.#rawOfDrawing());
    if (this.#drawn) this.#page.ask({ raw: () => this.#rawOfDrawing() });
  }

  // --- files --------------------------------------------------------------------------------

  #setUpFiles() {
    takeFiles({
      stage: byId("stage"),
      input: byId("file"),
      take: (file) => this.#readFile(file),
      none: () => this.#page.tell("What was dropped is no file; drop a PNG or JPEG image."),
    });
  }

  async #readFile(file) {
    if (file.size > MOST_FILE_BYTES) {
      this.#page.tell(`${file.name} is larger than ${humanBytes(MOST_FILE_BYTES)}; scale it down.`);
      return;
    }
    let image;
    try {
      image = await readImage(file);
    } catch {
      this.#page.tell(
        `${file.name} is not an image that this browser can read; give PNG or JPEG.`,
      );
      return;
    }
    this.#choose({ image }, `The image ${file.name}`);
    const raw = this.#rawOfChosen();
    this.#page.ask({ raw: () => raw });
  }

  // --- drawing ------------------------------------------------------------------------------

  #setUpDrawing() {
    const canvas = this.#canvas;
    const context = this.#context;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [
        ((event.clientX - box.left) * canvas.width) / box.width,
        ((event.clientY - box.top) * canvas.height) / box.height,
      ];
    };
    canvas.classList.add("drawable");
    canvas.addEventListener("pointerdown", (event) => {
      if (this.#chosen) this.#clear();
      this.#describe("Your drawing", { drawn: true });
      canvas.setPointerCapture(event.pointerId);
      context.lineWidth = Math.min(canvas.width, canvas.height) / 12;
      context.lineCap = context.lineJoin = "round";
      context.strokeStyle = this.#light ? "#000" : "#fff";
      context.beginPath();
      context.moveTo(...at(event));
      context.lineTo(...at(event));
      context.stroke();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      context.lineTo(...at(event));
      context.stroke();
      this.#page.ask({ raw: () => this.#see(this.#rawOfDrawing()), passing: true });
    });
    const done = () => this.#page.ask({ raw: () => this.#see(this.#rawOfDrawing()) });
    canvas.addEventListener("pointerup", done);
    canvas.addEventListener("pointercancel", done);
  }

  #pixels() {
    return this.#context.getImageData(0, 0, this.#canvas.width, this.#canvas.height);
  }

  #rawOfDrawing() {
    return rawOfImage(this.#pixels(), this.#preprocessing);
  }

  #clear() {
    const { input_shape: shape, mean } = this.#preprocessing;
    const grey = shape[0] === 1;
    this.#light = grey && mean[0] > 0.5; // as ink on paper is
    this.#chosen = null;
    for (const canvas of [this.#canvas, byId("seen")]) {
      const context = canvas.getContext("2d");
      context.fillStyle = this.#light ? "#fff" : "#000";
      context.fillRect(0, 0, canvas.width, canvas.height);
    }
    this.#describe("The input, still empty", { drawn: false });
    byId("hint").textContent = grey ? "Draw here, or drop an image" : "Drop an image here";
    this.#page.clear();
  }

  #describe(text, { drawn }) {
    this.#drawn = drawn;
    this.#canvas.setAttribute("aria-label", text);
    byId("hint").textContent = "";
  }
}

/** Raw values, channels first, as pixels. */
function imageOfRaw(raw, { input_shape: [channels, height, width], scale }) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i += 1) {
    for (let c = 0; c < 3; c += 1) {
      const value = raw[(channels === 1 ? 0 : c) * width * height + i];
      image.data[4 * i + c] = Math.round((255 * value) / scale);
    }
    image.data[4 * i + 3] = 255;
  }
  return image;
}

/** `image` on `canvas` with its aspect, within the colour of its border; its pixels stay sharp. */
function paint(canvas, image) {
  const original = document.createElement("canvas");
  original.width = image.width;
  original.height = image.height;
  original.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  const [width, height] = fittedSize(image.width, image.height, canvas.width, canvas.height);
  const colour = [0, 1, 2].map((c) => median(edges(image, c)));
  context.fillStyle = `rgb(${colour.join(" ")})`;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = image.width > width;
  context.imageSmoothingQuality = "high";
  const [left, top] = [(canvas.width - width) / 2, (canvas.height - height) / 2].map(Math.floor);
  context.drawImage(original, left, top, width, height);
}
