/** The bar above the pictures: what is done with all of them at once. */

import { copy } from "./clipboard.js";
import { confirm } from "./dialogs.js";
import { asText, FORMATS, save } from "./exports.js";

const get = (id) => document.getElementById(id);

export class Bar {
  #pictures;
  #models;
  #status;
  #isSaved = true; // whether every caption that a person wrote was copied or downloaded

  /** `again(pictures)` captions them anew, `remove(pictures)` forgets them. */
  constructor({ pictures, models, status, again, remove }) {
    this.#pictures = pictures;
    this.#models = models;
    this.#status = status;
    const repeat = (some) => {
      again(some);
      get("main").focus(); // the button itself is about to go
    };
    get("again").addEventListener("click", () => repeat(this.#older()));
    get("retry-all").addEventListener("click", () => repeat(this.#of("failed")));
    get("copy-all").addEventListener("click", () => this.#copy());
    get("clear").addEventListener("click", () => this.#clear(remove));
    for (const button of document.querySelectorAll("[data-format]")) {
      button.addEventListener("click", () => this.#download(FORMATS[button.dataset.format]));
    }
    addEventListener("beforeunload", (event) => {
      if (!this.#isSaved && pictures.counts.done) event.preventDefault();
    });
  }

  /** Something was written that would be lost with the page. */
  noteEdit() {
    this.#isSaved = false;
  }

  show({ all, done, failed }) {
    const chosen = this.#models.chosen;
    const older = this.#older();
    get("bar").hidden = !all;
    get("retry-all").hidden = failed < 2;
    get("hint").hidden = !(done && chosen?.attends);
    get("again").hidden = !older.length;
    get("again").textContent = `Caption ${older.length} again with ${chosen?.name}`;
    for (const button of document.querySelectorAll("#copy-all, [data-format]")) {
      button.disabled = !done;
    }
  }

  #withText() {
    return this.#of("done").filter(({ text }) => text !== null);
  }

  #of(wanted) {
    return [...this.#pictures].filter(({ state }) => state === wanted);
  }

  /** Pictures captioned by a model other than the chosen one, except those that a person edits or
   * has edited. */
  #older() {
    const name = this.#models.chosen?.name;
    return this.#of("done").filter(({ model, edited, isEditing }) => {
      return name && model.name !== name && edited === null && !isEditing;
    });
  }

  async #copy() {
    const done = this.#withText();
    const copied = await copy(asText(done));
    this.#isSaved ||= copied;
    const what = done.length === 1 ? "1 caption" : `${done.length} captions`;
    this.#status.say(copied ? `${what} copied.` : "The browser did not allow copying.");
    get("copy-all").textContent = copied ? "Copied" : "Not allowed";
    setTimeout(() => (get("copy-all").textContent = "Copy all"), 2000);
  }

  #download({ name, make }) {
    save(make(this.#withText()), name);
    this.#isSaved = true;
    this.#status.say(`${name} downloaded.`);
  }

  async #clear(remove) {
    const { all, done } = this.#pictures.counts;
    const title = all === 1 ? "Remove the picture?" : `Remove all ${all} pictures?`;
    if (done && !(await confirm(get("confirm"), title, "Their captions go with them."))) return;
    remove([...this.#pictures]);
    get("choose").focus();
  }
}
