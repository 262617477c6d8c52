/**
 * A caption as a row of words. Where the model attends each is a button, and all are one stop of
 * the Tab key: the arrow keys go from word to word, as in the toolbar pattern of WAI-ARIA.
 */

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
const LETTER = /\p{L}/u;
const FROM_RIGHT = /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;
const SIDEWAYS = new Set(["ArrowRight", "ArrowLeft"]);

export class Words {
  #element;
  #onPick;
  #buttons = [];
  #picked = null;

  /** `onPick(index)` is told of the word to show, or of null. */
  constructor(element, label, onPick) {
    this.#element = element;
    this.#onPick = onPick;
    this.label = label;
    element.addEventListener("click", (event) => this.#click(event));
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Plain text. */
  showText(text) {
    this.#buttons = [];
    this.#picked = null;
    this.#element.dir = "auto";
    this.#element.removeAttribute("role");
    this.#element.removeAttribute("aria-label");
    this.#element.textContent = text;
  }

  /** The words of `text` to choose from. */
  showWords(words, text) {
    this.#picked = null;
    this.#buttons = words.map((word, index) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", className: "word", textContent: word });
      button.tabIndex = index ? -1 : 0;
      button.setAttribute("aria-pressed", "false");
      return button;
    });
    this.#element.dir = FROM_RIGHT.test(LETTER.exec(text)?.[0]) ? "rtl" : "ltr"; // auto passes buttons over
    this.#element.setAttribute("role", "toolbar");
    this.#element.setAttribute("aria-label", this.label);
    const between = gaps(words, text);
    this.#element.replaceChildren(
      ...this.#buttons.flatMap((button, index) => [between[index], button]),
      between[words.length],
    );
  }

  #click(event) {
    const index = this.#buttons.indexOf(event.target.closest(".word"));
    if (index >= 0) this.#pick(index === this.#picked ? null : index, index);
  }

  #key(event) {
    const last = this.#buttons.length - 1;
    const now = this.#buttons.indexOf(document.activeElement);
    if (now < 0) return;
    const places = { Home: 0, End: last };
    const next = places[event.key] ?? (event.key in STEPS ? now + this.#step(event.key) : null);
    if (next !== null) {
      event.preventDefault();
      const index = Math.min(last, Math.max(0, next));
      this.#buttons[index].focus();
      this.#pick(this.#picked === null ? null : index, index); // a map that is shown follows
    } else if (event.key === "Escape" && this.#picked !== null) {
      this.#pick(null, now);
    }
  }

  /** The next word of a caption in Arabic, for example, is to the left. */
  #step(key) {
    const isTurned = SIDEWAYS.has(key) && this.#element.dir === "rtl";
    return isTurned ? -STEPS[key] : STEPS[key];
  }

  #pick(index, stop) {
    const changed = index !== this.#picked;
    this.#picked = index;
    this.#buttons.forEach((button, at) => {
      button.setAttribute("aria-pressed", String(at === index));
      button.tabIndex = at === stop ? 0 : -1;
    });
    if (changed) this.#onPick(index);
  }
}

/** What `text` has before each of its words and after the last: not every language has spaces there.
 * Spaces, where it is not made of these words. */
function gaps(words, text) {
  const found = [];
  let at = 0;
  for (const word of words) {
    const start = text.indexOf(word, at);
    if (start < 0 || LETTER.test(text.slice(at, start))) return ["", ...words.slice(1).map(() => " "), ""];
    found.push(text.slice(at, start));
    at = start + word.length;
  }
  return [...found, text.slice(at)];
}
