// The answer as bars, and numbers as people read them.

const MOST_BARS = 12;

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

/** A number as short as it can be read. */
export function number(value) {
  const short = Number(value.toPrecision(4));
  return Math.abs(short) >= 1e6 ? short.toExponential() : String(short).replace("-", "−");
}
