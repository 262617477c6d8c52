/** The bar above the pictures: what is done with all of them at once. */

import { copy } from "./clipboard.js";
import { confirm } from "./dialogs.js";
import { asText, FORMATS, save } from "./exports.js";
import { safePath } from "./names.js";

const get = (id) => document.getElementById(id);

export class Bar {
  #pictures;
  #models;
  #status;

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
      if ([...pictures].some(({ isUnsaved }) => isUnsaved)) event.preventDefault();
    });
  }

  show({ all, done, failed }) {
    const chosen = this.#models.chosen;
    const older = this.#older();
    const reviewed = this.#reviewed().length;
    get("bar").hidden = !all;
    get("retry-all").hidden = failed < 2;
    get("hint").hidden = !(done && chosen?.attends);
    get("again").hidden = !older.length;
    get("again").textContent = `Caption ${older.length} again with ${chosen?.name}`;
    get("only").hidden = !reviewed;
    get("only").querySelector("span").textContent = `Only the ${reviewed} reviewed`;
    const isAnyMadeHere = [...this.#pictures].some(({ isMadeHere }) => isMadeHere);
    for (const button of document.querySelectorAll("#copy-all, [data-format]")) {
      // Pictures that are in this tab alone can be saved before they have captions.
      const hasFiles = isAnyMadeHere && FORMATS[button.dataset.format]?.hasFiles;
      button.disabled = !done && !hasFiles;
    }
  }

  #withText() {
    return this.#of("done").filter(({ text }) => text !== null);
  }

  #reviewed() {
    return this.#withText().filter(({ reviewed }) => reviewed);
  }

  #of(wanted) {
    return [...this.#pictures].filter(({ state }) => state === wanted);
  }

  /** Pictures captioned by a model other than the chosen one, except those that a person edits or
   * has reviewed. */
  #older() {
    const name = this.#models.chosen?.name;
    return this.#of("done").filter(({ model, reviewed, isEditing }) => {
      return name && model.name !== name && !reviewed && !isEditing;
    });
  }

  async #copy() {
    const done = this.#withText();
    const copied = await copy(asText(done));
    if (copied) this.#noteSaved();
    const what = done.length === 1 ? "1 caption" : `${done.length} captions`;
    this.#status.say(copied ? `${what} copied.` : "The browser did not allow copying.");
    get("copy-all").textContent = copied ? "Copied" : "Not allowed";
    setTimeout(() => (get("copy-all").textContent = "Copy all"), 2000);
  }

  async #download({ name, make, hasFiles }) {
    const all = [...this.#pictures];
    const isPart = get("reviewed-only").checked && !get("only").hidden;
    const wanted = isPart ? this.#reviewed() : this.#withText();
    const files = (isPart ? wanted : all).filter(({ isMadeHere }) => isMadeHere && hasFiles);
    save(await make(wanted, all, files), name);
    this.#noteSaved(files);
    this.#status.say(`${name} downloaded.`);
    if (hasFiles) this.#tellOfNames(name, wanted);
  }

  /** What a person decided of captions is in a file or on the clipboard, and so are `files`. */
  #noteSaved(files = []) {
    for (const picture of this.#pictures) picture.isCaptionSaved = true;
    for (const picture of files) picture.isFileSaved = true;
  }

  /** Texts beside pictures belong to them by their names. */
  #tellOfNames(name, pictures) {
    const changed = pictures.filter(({ name, isMadeHere }) => !isMadeHere && safePath(name) !== name);
    if (!changed.length) return;
    const which = changed.length === 1 ? "1 text is" : `${changed.length} texts are`;
    this.#status.remark(
      `In ${name}, ${which} not called as the picture, whose name no archive should have: rename the ` +
        "picture likewise, or use the CSV.",
    );
  }

  async #clear(remove) {
    const { all, done } = this.#pictures.counts;
    const isAsked = done > 0 || [...this.#pictures].some(({ isUnsaved }) => isUnsaved);
    const title = all === 1 ? "Remove the picture?" : `Remove all ${all} pictures?`;
    if (isAsked && !(await confirm(get("confirm"), title, "Their captions go with them."))) return;
    remove([...this.#pictures]);
    get("choose").focus();
  }
}
