/** What else the caption can be: the model's others with their probabilities, and a person's own text. */

import { odds, percent } from "./percent.js";

const OWN = "own"; // the value of the text that a person wrote

export class Others {
  #details;
  #fieldset;
  #picture;
  #shown = {}; // what the list is of

  /** `onPick(index)` is told of a caption's place among the picture's; null is what a person wrote. */
  constructor(details, picture, onPick) {
    this.#details = details;
    this.#fieldset = details.querySelector("fieldset");
    this.#picture = picture;
    details.addEventListener("toggle", () => this.#fill());
    this.#fieldset.addEventListener("change", ({ target: { value } }) => {
      onPick(value === OWN ? null : Number(value));
    });
  }

  render() {
    const { captions, written, text } = this.#picture;
    const count = captions.length + (written !== null) - (text !== null); // that counts already
    this.#details.hidden = count < 1;
    this.#details.querySelector("summary").textContent =
      count === 1 ? "1 alternative" : `${count} alternatives`;
    this.#fill();
  }

  /** The list is only made when it is opened: hundreds of them would be slow. */
  #fill() {
    if (!this.#details.open) return;
    const { captions, chosen, edited, written, name } = this.#picture;
    if (this.#shown.captions !== captions || this.#shown.written !== written) {
      this.#shown = { captions, written };
      const legend = document.createElement("legend");
      legend.className = "unseen";
      legend.textContent = `Captions of ${name}`;
      const group = `caption-of-${this.#picture.id}`;
      const note = document.createElement("p");
      note.className = "small";
      note.textContent = "Probability of a word on average, and of the caption as a whole.";
      note.hidden = captions.every(({ log_prob }) => log_prob === null);
      const rows = captions.map((caption, index) => row(group, String(index), caption.caption, likely(caption)));
      if (written !== null) rows.unshift(row(group, OWN, written, "Yours"));
      this.#fieldset.replaceChildren(legend, ...rows, note);
    }
    const value = edited === null ? String(chosen) : edited && OWN;
    for (const input of this.#fieldset.querySelectorAll("input")) input.checked = input.value === value;
  }
}

/** A caption to choose, with a note below it. */
function row(group, value, caption, note) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: group, value });
  const text = document.createElement("span");
  Object.assign(text, { textContent: caption, dir: "auto" });
  label.append(input, text);
  if (!note) return label;
  const share = document.createElement("span");
  Object.assign(share, { textContent: note, className: "share" });
  label.append(share);
  return label;
}

/** A caption's probabilities; null where the model does not tell them. */
function likely({ log_prob, log_probs }) {
  if (log_prob === null) return null;
  const mean = Math.exp(log_prob / log_probs.length); // geometric, over words and end
  return `${percent(mean)} a word, ${odds(Math.exp(log_prob))} in all`;
}
