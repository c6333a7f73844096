// Series and maps as input: public examples alone, as lines and as colours.

import { number } from "./views.js";

const [DARK, LINE, FAINT, WORDS] = ["#0b1110", "#5eead4", "#33413e", "#a9b8b4"];
const WIDTH = 672;
const MOST_LINES = 16; // channels; more are shown as a map
const WIDEST = 2; // standard deviations of a line, at least
const byId = (id) => document.getElementById(id);

class Plot {
  constructor(facts) {
    this.preprocessing = facts.preprocessing;
    this.canvas = byId("input");
    byId("about").hidden = false;
    byId("stage").classList.add("plot");
  }

  show(values, description) {
    this.draw(this.canvas, values, { labels: true });
    this.canvas.setAttribute("aria-label", description);
    byId("about").textContent = this.about(values);
  }

  thumbnail(canvas, values) {
    [canvas.width, canvas.height] = [112, 72];
    this.draw(canvas, values, { labels: false });
  }
}

/** (C, L): a line for each channel, one below the other. */
export class SeriesInput extends Plot {
  constructor(facts) {
    super(facts);
    [this.channels, this.length] = this.preprocessing.input_shape;
    this.lines = this.channels <= MOST_LINES;
    this.canvas.width = WIDTH;
    this.canvas.height = this.lines ? Math.max(200, 52 * this.channels) : 480;
  }

  draw(canvas, values, { labels }) {
    if (!this.lines) {
      const { channels: rows, length: columns, preprocessing } = this;
      showMap(canvas, values, { rows, columns, preprocessing });
      return;
    }
    const { scale, mean, std } = this.preprocessing;
    const context = canvas.getContext("2d");
    const strip = canvas.height / this.channels;
    const left = labels ? 40 : 0;
    context.fillStyle = DARK;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.font = "22px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let c = 0; c < this.channels; c += 1) {
      const line = values.slice(c * this.length, (c + 1) * this.length);
      const away = line.map((value) => (value / scale - mean[c]) / std[c]);
      const widest = Math.max(WIDEST, ...away.map(Math.abs));
      const middle = (c + 0.5) * strip;
      context.strokeStyle = FAINT;
      context.lineWidth = 1;
      stroke(context, [[left, middle], [canvas.width, middle]]);
      context.strokeStyle = LINE;
      context.lineWidth = labels ? 2 : 1;
      stroke(
        context,
        away.map((value, i) => [
          left + ((i + 0.5) / this.length) * (canvas.width - left),
          middle - (value / widest) * 0.46 * strip,
        ]),
      );
      if (!labels) continue;
      context.fillStyle = WORDS;
      context.fillText(String(c + 1), 8, middle);
    }
  }

  about(values) {
    const [low, high] = extent(values);
    const how = this.lines
      ? "each on the scale of the training data, around its mean"
      : "first channel on top, dark is low";
    const size = `${this.channels} channels of ${this.length} values`;
    return `${size}, ${how}; from ${number(low)} to ${number(high)}`;
  }
}

/** (C, H, W) that is no picture, such as a spectrogram: colours for values, side by side. */
export class MapInput extends Plot {
  constructor(facts) {
    super(facts);
    [this.channels, this.rows, this.columns] = this.preprocessing.input_shape;
    const across = Math.ceil(Math.sqrt(this.channels));
    const down = Math.ceil(this.channels / across);
    const ratio = (down * this.rows) / (across * this.columns);
    this.canvas.width = WIDTH;
    this.canvas.height = Math.round(WIDTH * Math.max(0.25, Math.min(1.2, ratio)));
    this.across = across;
    this.down = down;
  }

  draw(canvas, values) {
    const { rows, columns, preprocessing, across, down } = this;
    const context = canvas.getContext("2d");
    context.fillStyle = DARK;
    context.fillRect(0, 0, canvas.width, canvas.height);
    const tile = document.createElement("canvas");
    const [width, height] = [canvas.width / across, canvas.height / down];
    for (let c = 0; c < this.channels; c += 1) {
      [tile.width, tile.height] = [Math.ceil(width), Math.ceil(height)];
      const one = values.slice(c * rows * columns, (c + 1) * rows * columns);
      showMap(tile, one, { rows, columns, preprocessing, channel: c });
      const [left, top] = [(c % across) * width, Math.floor(c / across) * height];
      const gap = across > 1 ? 2 : 0;
      context.drawImage(tile, left, top, width - gap, height - gap);
    }
  }

  about() {
    const maps = this.channels === 1 ? "A map" : `${this.channels} maps`;
    const size = `${maps} of ${this.rows} x ${this.columns} values (rows x columns, first row on top)`;
    if (this.channels > 1) return `${size}; dark is low`;
    const { scale, mean, std } = this.preprocessing;
    const [low, high] = [-2, 2].map((times) => number((mean[0] + times * std[0]) * scale));
    return `${size}, from ${low} or less (dark) to ${high} or more (light)`;
  }
}

/** Fill `canvas` with the colours of values, two standard deviations to each side of their mean. */
function showMap(canvas, values, { rows, columns, preprocessing, channel = null }) {
  const { scale, mean, std } = preprocessing;
  const image = new ImageData(columns, rows);
  values.forEach((value, i) => {
    const c = channel ?? Math.floor(i / columns);
    const away = (value / scale - mean[c]) / std[c];
    image.data.set([...viridis((away + 2) / 4), 255], 4 * i);
  });
  const original = document.createElement("canvas");
  [original.width, original.height] = [columns, rows];
  original.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(original, 0, 0, canvas.width, canvas.height);
}

const VIRIDIS = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
];

/** A colour for 0 to 1 that grows lighter evenly, for colour-blind eyes too. */
function viridis(share) {
  const place = Math.max(0, Math.min(1, share)) * (VIRIDIS.length - 1);
  const at = Math.min(VIRIDIS.length - 2, Math.floor(place));
  return VIRIDIS[at].map((low, c) => Math.round(low + (place - at) * (VIRIDIS[at + 1][c] - low)));
}

function stroke(context, points) {
  context.beginPath();
  for (const point of points) context.lineTo(...point);
  context.stroke();
}

function extent(values) {
  return values.reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Infinity, -Infinity],
  );
}
