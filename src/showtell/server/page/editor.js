/** Editing a caption in its place: Enter keeps, Escape does not. */

export class Editor {
  #element;
  #area;
  #onDone;

  /** `onDone(text)` is told of the new text ("": no caption), or of null where nothing is to change. */
  constructor(element, label, onDone) {
    this.#element = element;
    this.#onDone = onDone;
    this.#area = element.querySelector("textarea");
    this.#area.setAttribute("aria-label", label);
    this.#area.addEventListener("keydown", (event) => this.#key(event));
    element.querySelector(".save").addEventListener("click", () => this.#done(this.#area.value));
    element.querySelector(".cancel").addEventListener("click", () => this.#done(null));
  }

  get isOpen() {
    return !this.#element.hidden;
  }

  open(text) {
    this.#area.value = text;
    this.#element.hidden = false;
    this.#area.focus();
    this.#area.select();
  }

  #key(event) {
    if (event.isComposing) return; // Enter then ends a character, not the caption
    if (event.key === "Enter") {
      event.preventDefault();
      this.#done(this.#area.value);
    } else if (event.key === "Escape") {
      this.#done(null);
    }
  }

  /** A caption is one line. */
  #done(text) {
    this.#element.hidden = true;
    this.#onDone(text === null ? null : text.replace(/\s+/g, " ").trim());
  }
}
