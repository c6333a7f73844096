// A text as input, typed or one of the public examples.

import { Tokenizer } from "./tokenizer.js";

const THUMBNAIL = [224, 72];
const byId = (id) => document.getElementById(id);

export class TextInput {
  #tokenizer;
  #length;

  constructor({ preprocessing, tokenizer }, { ask, clear }) {
    this.#tokenizer = new Tokenizer(tokenizer);
    [this.#length] = preprocessing.input_shape;
    byId("stage").hidden = true;
    const box = byId("text");
    box.hidden = false;
    byId("about").hidden = false;
    const typed = (passing) => {
      if (!box.value.trim()) {
        byId("about").textContent = "";
        clear();
        return;
      }
      const { numbers, count, unknown } = this.#tokenizer.encode(box.value, this.#length);
      byId("about").textContent = this.#about(count, unknown);
      ask({ raw: () => numbers, passing });
    };
    box.addEventListener("input", () => typed(true));
    box.addEventListener("change", () => typed(false));
  }

  show(numbers) {
    byId("text").value = this.#tokenizer.decode(numbers);
    byId("about").textContent = "As the model reads it: … is a token that it does not know.";
  }

  /** The beginning of the text, in lines. */
  thumbnail(canvas, numbers) {
    [canvas.width, canvas.height] = THUMBNAIL;
    const context = canvas.getContext("2d");
    context.fillStyle = "#0b1110";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#a9b8b4";
    context.font = "16px system-ui, sans-serif";
    let [line, y] = ["", 24];
    for (const word of this.#tokenizer.decode(numbers).split(" ")) {
      if (line && context.measureText(`${line} ${word}`).width > canvas.width - 20) {
        context.fillText(line, 10, y);
        [line, y] = [word, y + 20];
      } else {
        line = line ? `${line} ${word}` : word;
      }
    }
    context.fillText(line, 10, y);
  }

  #about(count, unknown) {
    const cut = count > this.#length ? ` The model reads the first ${this.#length} tokens.` : "";
    return `${unknown} of ${count} tokens are not known to the model.${cut}`;
  }
}
