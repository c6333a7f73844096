// Recordings as input: a file chosen or dropped, the microphone, or a public example's spectrogram.

import { takeFiles } from "./files.js";
import { LogMel, clipOf } from "./logmel.js";
import { MapInput } from "./plots.js";
import { LEVELS, asLevel } from "./resample.js";
import { humanBytes, number } from "./views.js";
import { isWav, readWav } from "./wav.js";

const MOST_FILE_BYTES = 30e6;
const MORE_SECONDS = 1; // than a clip: people do not speak at once
const byId = (id) => document.getElementById(id);

export class SoundInput extends MapInput {
  #front;
  #mel;
  #page;
  #clip = null; // what can be played
  #recorder = null;

  constructor(facts, page) {
    super(facts);
    this.#front = facts.preprocessing.sound;
    this.#mel = new LogMel(this.#front);
    this.#page = page;
    byId("sound-tools").hidden = false;
    byId("play").addEventListener("click", () => this.#play());
    byId("record").addEventListener("click", () => this.#record());
    byId("record").hidden = !navigator.mediaDevices; // which only localhost and https offer
    byId("hint").textContent = "Drop a recording here";
    takeFiles({
      stage: byId("stage"),
      input: byId("sound-file"),
      take: (file) => this.#readFile(file),
      none: () => page.tell("What was dropped is no file; drop a wav file."),
    });
  }

  show(values, description) {
    super.show(values, description);
    this.#clip = null;
    byId("play").disabled = true;
    byId("play").title = "A public example is a spectrogram; its sound is not on the page";
    byId("hint").textContent = "";
  }

  /** Rows from the bottom up, as spectrograms have them. */
  draw(canvas, values) {
    const { rows, columns } = this;
    const turned = Array.from(
      { length: rows * columns },
      (_, i) => values[(rows - 1 - Math.floor(i / columns)) * columns + (i % columns)],
    );
    super.draw(canvas, turned);
  }

  about() {
    const { edges, samples, rate } = this.#front;
    const bands = `${this.rows} bands from ${number(edges[0])} Hz to ${number(edges.at(-1))} Hz`;
    return `${number(samples / rate)} s from left to right, ${bands}, the lowest at the bottom; dark is quiet`;
  }

  async #readFile(file) {
    if (file.size > MOST_FILE_BYTES) {
      this.#page.tell(`${file.name} is larger than ${humanBytes(MOST_FILE_BYTES)}; cut it.`);
      return;
    }
    await this.#hear(await file.arrayBuffer(), file.name);
  }

  async #hear(buffer, name) {
    let recording;
    try {
      recording = isWav(buffer) ? readWav(buffer) : await decoded(buffer, this.#front.rate);
    } catch (error) {
      this.#page.tell(`${name} ${error.message}; give a wav file.`);
      return;
    }
    const clip = clipOf(recording, this.#front);
    const raw = this.#mel.spectrogram(clip);
    this.show(raw, `The recording ${name}`);
    this.#clip = clip;
    byId("play").disabled = false;
    byId("play").title = "What the model hears";
    byId("about").textContent = [...this.#changes(recording, clip), this.about()].join("; ");
    this.#page.ask({ raw: () => raw });
  }

  /** What was done to a recording, in words. */
  #changes({ samples, rate }, clip) {
    const { rate: wanted, samples: heard } = this.#front;
    return [
      rate !== wanted && `resampled from ${rate.toLocaleString("en")} Hz`,
      samples.length / rate > heard / wanted && `the loudest ${number(heard / wanted)} s of it`,
      clip.every((level) => level === 0) && "silent",
    ].filter(Boolean);
  }

  // --- microphone and loudspeaker -------------------------------------------------------------

  async #record() {
    if (this.#recorder) {
      this.#recorder.stop();
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      this.#page.tell("This page may not use the microphone; allow it, or choose a wav file.");
      return;
    }
    const parts = [];
    const recorder = new MediaRecorder(stream);
    const seconds = this.#front.samples / this.#front.rate + MORE_SECONDS;
    const end = setTimeout(() => recorder.stop(), 1000 * seconds);
    recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    recorder.addEventListener("stop", async () => {
      clearTimeout(end);
      stream.getTracks().forEach((track) => track.stop());
      this.#recorder = null;
      byId("record").textContent = "Record";
      await this.#hear(await new Blob(parts).arrayBuffer(), "your recording");
    });
    recorder.start();
    this.#recorder = recorder;
    byId("record").textContent = "Stop";
  }

  #play() {
    const context = new AudioContext();
    const buffer = context.createBuffer(1, this.#clip.length, this.#front.rate);
    buffer.copyToChannel(Float32Array.from(this.#clip, (level) => level / LEVELS), 0);
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(context.destination);
    source.addEventListener("ended", () => context.close());
    source.start();
  }
}

/** What the browser makes of another kind of file, at this rate; no bits are promised of it. */
async function decoded(buffer, rate) {
  let found;
  try {
    found = await new OfflineAudioContext(1, 1, rate).decodeAudioData(buffer);
  } catch {
    throw new Error("is no recording that this browser can read");
  }
  const channels = Array.from({ length: found.numberOfChannels }, (_, c) => found.getChannelData(c));
  const samples = Float64Array.from(channels[0], (_, i) => {
    const total = channels.reduce((sum, channel) => sum + channel[i], 0);
    return asLevel((total / channels.length) * LEVELS);
  });
  return { samples, rate };
}
