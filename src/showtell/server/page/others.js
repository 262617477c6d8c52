/** The model's other captions with their probabilities, to pick from. */

import { odds, percent } from "./percent.js";

export class Others {
  #details;
  #fieldset;
  #picture;
  #onPick;
  #shown = null; // the captions that the list is of

  /** `onPick(index)` is told of a caption's place among the picture's. */
  constructor(details, picture, onPick) {
    this.#details = details;
    this.#fieldset = details.querySelector("fieldset");
    this.#picture = picture;
    this.#onPick = onPick;
    details.addEventListener("toggle", () => this.#fill());
    this.#fieldset.addEventListener("change", (event) => onPick(Number(event.target.value)));
    // A radio that is checked already tells of no change; yet an edit is undone by it.
    this.#fieldset.addEventListener("click", (event) => this.#click(event));
  }

  render() {
    const { captions, chosen, edited } = this.#picture;
    const isOne = edited === null && chosen !== null; // of them, the caption that counts
    const count = captions.length - isOne;
    this.#details.hidden = count < 1;
    this.#details.querySelector("summary").textContent =
      count === 1 ? "1 alternative" : `${count} alternatives`;
    this.#fill();
  }

  /** The list is only made when it is opened: hundreds of them would be slow. */
  #fill() {
    if (!this.#details.open) return;
    const { captions, chosen, edited, name } = this.#picture;
    if (this.#shown !== captions) {
      this.#shown = captions;
      const legend = document.createElement("legend");
      legend.className = "unseen";
      legend.textContent = `Captions of ${name}`;
      const group = `caption-of-${this.#picture.id}`;
      const note = document.createElement("p");
      note.className = "small";
      note.textContent = "Probability of a word on average, and of the caption as a whole.";
      note.hidden = captions.every(({ log_prob }) => log_prob === null);
      const rows = captions.map((caption, index) => row(caption, index, group));
      this.#fieldset.replaceChildren(legend, ...rows, note);
    }
    this.#fieldset.querySelectorAll("input").forEach((input, index) => {
      input.checked = edited === null && index === chosen;
    });
  }

  #click(event) {
    const input = event.target.closest("label")?.querySelector("input");
    if (input?.checked && this.#picture.edited !== null) this.#onPick(Number(input.value));
  }
}

/** A caption to choose, and its probabilities where the model tells them. */
function row({ caption, log_prob, log_probs }, index, group) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: group, value: String(index) });
  const text = document.createElement("span");
  text.textContent = caption;
  label.append(input, text);
  if (log_prob === null) return label;
  const mean = Math.exp(log_prob / log_probs.length); // geometric, over words and end
  const share = document.createElement("span");
  share.className = "share";
  share.textContent = `${percent(mean)} a word, ${odds(Math.exp(log_prob))} in all`;
  label.append(share);
  return label;
}
