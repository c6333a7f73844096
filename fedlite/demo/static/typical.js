// Whether an input is unlike the public examples, by the few figures in which those are summed up.

/**
 * What is unusual about an input, in words; empty where nothing is.
 * @param {ArrayLike<number>} raw
 */
export function unlikeness(raw, { kind, typical, preprocessing }) {
  if (kind !== "picture" || !typical) return "";
  const found = traits(raw, preprocessing);
  if (found === null) return "This picture is all of one colour.";
  const inside = (name, value) => value >= typical[name][0] && value <= typical[name][1];
  const middle = (typical.brightness[0] + typical.brightness[1]) / 2;
  const [away, turned] = [found.brightness, 1 - found.brightness].map((b) => Math.abs(b - middle));
  if (!inside("brightness", found.brightness) && turned < away / 2) {
    return "This looks like a negative of what the model was trained on: try Invert.";
  }
  const words = Object.entries(WORDS)
    .filter(([name]) => !inside(name, found[name]))
    .map(([name, [less, more]]) => (found[name] < typical[name][0] ? less : more));
  if (!words.length) return "";
  return `Unlike the public training pictures: ${words.join(", ")}. The answer may mean little.`;
}

const WORDS = {
  brightness: ["darker", "brighter"],
  contrast: ["paler", "starker"],
  centre_x: ["further left", "further right"],
  centre_y: ["higher up", "lower down"],
  spread_x: ["narrower", "wider"],
  spread_y: ["flatter", "taller"],
};

/** As `fedlite/demo/typical.py` has them; null for a picture of one colour. */
export function traits(raw, { input_shape: [channels, height, width], scale }) {
  const size = height * width;
  const grey = new Float64Array(size);
  for (let i = 0; i < channels * size; i += 1) grey[i % size] += raw[i] / scale / channels;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const brightness = mean(grey);
  const contrast = Math.sqrt(mean(grey.map((value) => (value - brightness) ** 2)));
  const ground = borderOf(grey, width, height);
  const ink = grey.map((value) => Math.abs(value - ground));
  const total = ink.reduce((sum, value) => sum + value, 0);
  if (!total) return null;
  const along = (place) => {
    let [first, second] = [0, 0];
    ink.forEach((value, i) => {
      first += (value * place(i)) / total;
      second += (value * place(i) ** 2) / total;
    });
    return [first, Math.sqrt(Math.max(0, second - first ** 2))];
  };
  const [centre_x, spread_x] = along((i) => ((i % width) + 0.5) / width);
  const [centre_y, spread_y] = along((i) => (Math.floor(i / width) + 0.5) / height);
  return { brightness, contrast, centre_x, centre_y, spread_x, spread_y };
}

function borderOf(grey, width, height) {
  const edge = grey.filter((_, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    return x === 0 || y === 0 || x === width - 1 || y === height - 1;
  });
  return edge.sort()[edge.length >> 1];
}
