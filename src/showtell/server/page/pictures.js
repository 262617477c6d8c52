/**
 * The pictures on the page: the state and the caption of each. A `change` event reports one picture;
 * `added` and `removed` events report many. Cards listen to them and draw; nothing here draws.
 *
 * States: waiting -> captioning -> done or failed; from any of them back to waiting.
 */

let number = 0;

export class Picture {
  id = ++number;
  state = "waiting";
  reason = ""; // why it failed
  model = null; // that its captions are of, as the API describes it
  captions = []; // as the API gives them, the best first
  chosen = null; // of them; null where the model withholds its best
  edited = null; // text that takes the place of the chosen one
  isEditing = false; // whether its editor is open
  cuts = 0; // how often its request was cut off
  preview; // {url, width, height}; null where the browser cannot show it

  constructor(file, name) {
    this.file = file;
    this.name = name;
  }

  /** The caption that counts, or null before there is one. */
  get text() {
    return this.edited ?? this.captions[this.chosen]?.caption ?? null;
  }
}

export class Pictures extends EventTarget {
  #all = new Map();
  #known = new Set();
  #counts = { waiting: 0, captioning: 0, done: 0, failed: 0 };

  get counts() {
    return { ...this.#counts, all: this.#all.size };
  }

  /** In the order in which they came. */
  *[Symbol.iterator]() {
    yield* this.#all.values();
  }

  /** Take [file, name] pairs in; those that are here already are left out. The ones taken. */
  add(files) {
    const added = [];
    for (const [file, name] of files) {
      const key = identity(file, name);
      if (this.#known.has(key)) continue;
      this.#known.add(key);
      const picture = new Picture(file, name);
      this.#all.set(picture.id, picture);
      this.#counts.waiting += 1;
      added.push(picture);
    }
    this.dispatchEvent(new CustomEvent("added", { detail: added }));
    return added;
  }

  remove(pictures) {
    for (const picture of pictures) {
      this.#all.delete(picture.id);
      this.#known.delete(identity(picture.file, picture.name));
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
