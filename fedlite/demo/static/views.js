// Drawing inputs on canvases and answers as bars.

const MOST_BARS = 12;

/** Raw values, channels first, as pixels. */
export function imageOfRaw(raw, { input_shape: [channels, height, width], scale }) {
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

/** Fill `canvas` with `image`; its size stays. Enlarged pixels stay sharp. */
export function showImage(canvas, image) {
  const original = document.createElement("canvas");
  original.width = image.width;
  original.height = image.height;
  original.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = image.width > canvas.width;
  context.imageSmoothingQuality = "high";
  context.drawImage(original, 0, 0, canvas.width, canvas.height);
}

/** Fill `canvas` with one line for each channel of a series, or of a row of numbers. */
export function showLines(canvas, raw, shape) {
  const channels = shape.length > 1 ? shape[0] : 1;
  const length = raw.length / channels;
  const low = Math.min(...raw);
  const span = Math.max(...raw) - low || 1;
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  context.lineWidth = Math.max(1, width / 250);
  for (let c = 0; c < channels; c += 1) {
    context.strokeStyle = `hsl(${165 + (c * 360) / channels} 75% 68%)`;
    context.beginPath();
    for (let i = 0; i < length; i += 1) {
      const x = ((i + 0.5) / length) * width;
      const y = (0.95 - (0.9 * (raw[c * length + i] - low)) / span) * height;
      context.lineTo(x, y);
    }
    context.stroke();
  }
}

/** Show probabilities: all classes in their order, or the likeliest where they are many. */
export function showBars(list, labels, probabilities) {
  const order = labels.map((_, i) => i);
  const likeliest = [...order].sort((a, b) => probabilities[b] - probabilities[a]);
  const shown = labels.length <= MOST_BARS ? order : likeliest.slice(0, MOST_BARS);
  list.replaceChildren(
    ...shown.map((i) => {
      const row = document.createElement("li");
      row.dataset.label = labels[i];
      row.dataset.probability = probabilities[i];
      if (i === likeliest[0]) row.className = "first";
      const [name, track, share] = ["label", "track", "share"].map((kind) => {
        const part = document.createElement("span");
        part.className = kind;
        return part;
      });
      name.textContent = labels[i];
      share.textContent = percent(probabilities[i]);
      const bar = document.createElement("span");
      bar.style.width = `${100 * probabilities[i]}%`;
      track.append(bar);
      track.setAttribute("aria-hidden", "true");
      row.append(name, track, share);
      return row;
    }),
  );
  return likeliest[0];
}

export function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

export function humanBytes(count) {
  if (count < 1000) return `${count} B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}
