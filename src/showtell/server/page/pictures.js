/**
 * The pictures on the page: the state and the caption of each. A `change` event reports one picture;
 * `added` and `removed` events report many. Cards listen to them and draw; nothing here draws.
 *
 * States: waiting -> captioning -> done or failed; from any of them back to waiting.
 */

import { split } from "./names.js";

let number = 0;

export class Picture {
  id = ++number;
  state = "waiting";
  reason = ""; // why it failed
  model = null; // that its captions are of, as the API describes it
  captions = []; // as the API gives them, the best first
  chosen = null; // of them; null where the model withholds its best
  edited = null; // text that takes the place of the chosen one; "" where a person wants no caption
  written = null; // the last text of a person, also while a caption of the model counts
  reviewed = false; // whether a person has said that this is the caption
  isEditing = false; // whether its editor is open
  isCaptionSaved = true; // what a person has decided of it was copied or downloaded
  cuts = 0; // how often its request was cut off, since a person asked for its captions
  sent = 0; // bytes of its last request's file
  preview; // {url, width, height}; null where the browser cannot show it

  /** `name` is its own on the page, `given` that of the file; `isMadeHere`: no folder has the file. */
  constructor(file, { name, given, isMadeHere }) {
    Object.assign(this, { file, name, given, isMadeHere });
    this.isFileSaved = !isMadeHere;
  }

  /** The caption that counts, or null where there is none. */
  get text() {
    if (this.edited !== null) return this.edited || null;
    return this.captions[this.chosen]?.caption ?? null;
  }

  /** Whether something would be lost with the page. */
  get isUnsaved() {
    return this.isEditing || !this.isCaptionSaved || !this.isFileSaved;
  }
}

export class Pictures extends EventTarget {
  #all = new Map();
  #known = new Set();
  #names = new Set();
  #counts = { waiting: 0, captioning: 0, done: 0, failed: 0 };

  get counts() {
    return { ...this.#counts, all: this.#all.size };
  }

  /** In the order in which they came. */
  *[Symbol.iterator]() {
    yield* this.#all.values();
  }

  /**
   * Take [file, name, isMadeHere] in; those that are here already are left out. The ones taken, each
   * with a name of its own, by which its caption finds it.
   */
  add(files) {
    const added = [];
    for (const [file, given, isMadeHere = false] of files) {
      const key = identity(file, given);
      if (this.#known.has(key)) continue;
      this.#known.add(key);
      const name = this.#freeName(given);
      this.#names.add(name);
      const picture = new Picture(file, { name, given, isMadeHere });
      this.#all.set(picture.id, picture);
      this.#counts.waiting += 1;
      added.push(picture);
    }
    this.dispatchEvent(new CustomEvent("added", { detail: added }));
    return added;
  }

  #freeName(given) {
    const [stem, suffix] = split(given);
    let name = given;
    for (let count = 2; this.#names.has(name); count += 1) name = `${stem} (${count})${suffix}`;
    return name;
  }

  remove(pictures) {
    for (const picture of pictures) {
      this.#all.delete(picture.id);
      this.#names.delete(picture.name);
      this.#known.delete(identity(picture.file, picture.given));
      this.#counts[picture.state] -= 1;
      if (picture.preview) URL.revokeObjectURL(picture.preview.url);
    }
    this.dispatchEvent(new CustomEvent("removed", { detail: pictures }));
  }

  has(picture) {
    return this.#all.has(picture.id);
  }

  /** Change a picture's fields and tell of it. */
  set(picture, fields) {
    if (!this.has(picture)) return;
    const { state = picture.state } = fields;
    this.#counts[picture.state] -= 1;
    this.#counts[state] += 1;
    Object.assign(picture, fields);
    this.dispatchEvent(new CustomEvent("change", { detail: picture }));
  }
}

/** The same file chosen twice is one; two files of one name are not. */
function identity(file, name) {
  return JSON.stringify([name, file.size, file.lastModified]);
}
