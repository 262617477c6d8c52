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

  /** `name` is its own on the page, `given` that of the file, and `path` that with all its folders;
   * `isMadeHere`: no folder has the file. */
  constructor(file, { name, given, path, isMadeHere }) {
    Object.assign(this, { file, name, given, path, isMadeHere });
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
  #names = new Map(); // to the path of the picture that has the name
  #counts = { waiting: 0, captioning: 0, done: 0, failed: 0 };

  get counts() {
    return { ...this.#counts, all: this.#all.size };
  }

  /** In the order in which they came. */
  *[Symbol.iterator]() {
    yield* this.#all.values();
  }

  /**
   * Take {file, given, path, isMadeHere} in; those that are here already are left out. The ones taken,
   * each with a name of its own, by which its caption finds it.
   */
  add(files) {
    const added = [];
    for (const { file, given, path, isMadeHere = false } of files) {
      const key = identity(file, path);
      if (this.#known.has(key)) continue;
      this.#known.add(key);
      const name = this.#freeName(given, path);
      this.#names.set(name, path);
      const picture = new Picture(file, { name, given, path, isMadeHere });
      this.#all.set(picture.id, picture);
      this.#counts.waiting += 1;
      added.push(picture);
    }
    this.dispatchEvent(new CustomEvent("added", { detail: added }));
    return added;
  }

  /** Where the name is taken by a picture of another folder, the path tells the two apart. It does not
   * for a file that has changed, or for two folders of one name: they need a number. */
  #freeName(given, path) {
    if (!this.#names.has(given)) return given;
    const wanted = this.#names.get(given) === path ? given : path;
    const [stem, suffix] = split(wanted);
    let name = wanted;
    for (let count = 2; this.#names.has(name); count += 1) name = `${stem} (${count})${suffix}`;
    return name;
  }

  remove(pictures) {
    for (const picture of pictures) {
      this.#all.delete(picture.id);
      this.#names.delete(picture.name);
      this.#known.delete(identity(picture.file, picture.path));
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

/** The same file chosen twice is one; two files of one name are not. Files in two folders may agree in all
 * but the folder, so the path has to count. */
function identity(file, path) {
  return JSON.stringify([path, file.size, file.lastModified]);
}
