// The bundle's tokenizer, for words and for characters, as the library in Python reads it.

const LETTER = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"; // \w of Unicode's UTS 18
const WORDS = new RegExp(`[${LETTER}]+|[^${LETTER}\\s]+`, "gu");
const [PAD, UNKNOWN] = [0, 1];

export class Tokenizer {
  #numbers;
  #tokens;
  #lowercase;
  #characters;

  constructor({ normalizer, pre_tokenizer: split, model }) {
    if (model.type !== "WordLevel") throw new Error(`no tokenizer of kind ${model.type} here`);
    this.#numbers = new Map(Object.entries(model.vocab));
    this.#tokens = new Map([...this.#numbers].map(([token, number]) => [number, token]));
    this.#lowercase = normalizer.normalizers.some(({ type }) => type === "Lowercase");
    this.#characters = split.type === "Split";
  }

  /** Numbers of tokens, cut at the length and filled up; and how many of all are not known. */
  encode(text, length) {
    const composed = text.normalize("NFKC");
    const form = this.#lowercase ? composed.toLowerCase() : composed;
    const parts = this.#characters ? Array.from(form) : (form.match(WORDS) ?? []);
    const all = parts.map((part) => this.#numbers.get(part) ?? UNKNOWN);
    const numbers = all.slice(0, length);
    while (numbers.length < length) numbers.push(PAD);
    return { numbers, count: all.length, unknown: all.filter((one) => one === UNKNOWN).length };
  }

  /** A text that has these tokens; what is not known is three dots. */
  decode(numbers) {
    const words = numbers
      .filter((number) => number !== PAD)
      .map((number) => (number === UNKNOWN ? "…" : this.#tokens.get(number)));
    return words.join(this.#characters ? "" : " ");
  }
}
