/** One picture on the page: shows its state and passes a person's actions on. */

import { copy } from "./clipboard.js";
import { Editor } from "./editor.js";
import { centralSquare, describeLook, drawLook, WHOLE } from "./look.js";
import { Others } from "./others.js";
import { percent } from "./percent.js";
import { Words } from "./words.js";

const template = document.getElementById("card").content.firstElementChild;
const NOTHING = "The model is not sure enough of any caption.";
const EMPTIED = "You left this picture without a caption.";
const MARK = "Mark as reviewed";
const STATES = { waiting: "Waiting", captioning: "Captioning…", done: "", failed: "" };

export class Card {
  #picture;
  #actions;
  #words;
  #editor;
  #others;
  #parts = {};
  #shown = {}; // what the words were made of, to leave them alone when nothing changed

  /** `actions`: change(picture, fields), remove(picture), retry(picture), say(text). */
  constructor(picture, actions) {
    this.#picture = picture;
    this.#actions = actions;
    this.element = template.cloneNode(true);
    this.element.setAttribute("aria-label", picture.name);
    for (const part of this.element.querySelectorAll("[class]")) {
      this.#parts[part.classList[0]] ??= part;
    }
    const { caption, editor, others, name } = this.#parts;
    name.textContent = name.title = picture.name;
    this.#words = new Words(caption, `Caption of ${picture.name}`, (index) => this.#look(index));
    this.#editor = new Editor(editor, `Caption of ${picture.name}`, (text) => this.#edited(text));
    this.#others = new Others(others, picture, (index) => this.#pick(index));
    this.#listen();
  }

  #listen() {
    const picture = this.#picture;
    const { change, remove, retry } = this.#actions;
    const labels = {
      remove: "Remove", retry: "Retry", edit: "Edit", copy: "Copy", review: MARK, revert: "Undo edit",
    };
    const handlers = {
      remove: () => remove(picture),
      retry: () => {
        retry(picture);
        this.#parts.remove.focus(); // the button itself is gone
      },
      edit: () => this.#edit(),
      copy: () => this.#copy(),
      review: () => this.#review(),
      revert: () => {
        change(picture, { edited: null, reviewed: false });
        this.#parts.edit.focus();
      },
    };
    for (const [name, handler] of Object.entries(handlers)) {
      this.#parts[name].setAttribute("aria-label", `${labels[name]}: ${picture.name}`);
      this.#parts[name].addEventListener("click", handler);
    }
  }

  /** Show the picture as it is now. */
  render() {
    const { state, text, edited, reviewed, reason } = this.#picture;
    const parts = this.#parts;
    const isDone = state === "done";
    this.element.dataset.state = state;
    parts.state.textContent = state === "failed" ? reason : STATES[state];
    parts.state.hidden = isDone;
    parts.caption.hidden = !isDone || this.#editor.isOpen;
    parts.actions.hidden = this.#editor.isOpen || !(isDone || state === "failed");
    parts.edit.hidden = !isDone;
    parts.copy.hidden = !isDone || text === null;
    parts.review.hidden = parts.copy.hidden || edited !== null; // own words need no review
    parts.review.textContent = reviewed ? "✓ Reviewed" : MARK;
    parts.review.setAttribute("aria-label", `${parts.review.textContent}: ${this.#picture.name}`);
    parts.retry.hidden = state !== "failed";
    parts.revert.hidden = !isDone || edited === null;
    this.#renderPreview();
    parts.preview.alt = isDone && text ? `Picture captioned: ${text}` : `Picture: ${this.#picture.name}`;
    if (!isDone) {
      this.#hideLook();
      parts.facts.hidden = parts.others.hidden = true;
      this.#shown = {};
      return;
    }
    this.#renderCaption();
    this.#others.render();
  }

  #renderPreview() {
    const { preview } = this.#picture;
    const image = this.#parts.preview;
    if (preview && image.hidden) {
      Object.assign(image, { src: preview.url, width: preview.width, height: preview.height });
      Object.assign(this.#parts.look, { width: preview.width, height: preview.height });
      image.hidden = false;
    }
    this.#parts.blank.textContent = preview === null ? "No preview" : "";
  }

  #renderCaption() {
    const { captions, chosen, edited, model, text } = this.#picture;
    const shown = this.#shown;
    if (shown.captions !== captions || shown.text !== text || shown.edited !== edited) {
      const caption = edited === null ? captions[chosen] : undefined;
      this.#hideLook();
      // Of a caption that the clean-up changed the words are not those that count.
      if (caption?.attention && caption.raw === undefined) this.#words.showWords(caption.words, text);
      else this.#words.showText(text ?? (edited === null ? NOTHING : EMPTIED));
      this.#shown = { captions, text, edited };
    }
    this.#parts.caption.toggleAttribute("data-none", text === null);
    this.#parts.facts.hidden = this.#editor.isOpen;
    const best = captions[chosen ?? 0];
    this.#parts.facts.textContent =
      edited === null ? [...sureness(best, model), model.name].join(" · ") : edited ? "Edited by you" : "";
  }

  /** The map of a word, or none. */
  #look(index) {
    if (index === null) {
      this.#hideLook();
      return;
    }
    const { captions, chosen, preview, model: { crop } } = this.#picture;
    const { words, log_probs, attention } = captions[chosen];
    const weights = attention.weights[index];
    const { look } = this.#parts;
    if (preview) {
      const box = crop === null ? WHOLE : centralSquare(look.width, look.height, crop);
      drawLook(look, weights, attention.grid, box);
      look.hidden = false;
    }
    const note = this.#parts["look-note"];
    note.hidden = false;
    note.textContent =
      `“${isolated(words[index])}”: looked ${describeLook(weights, attention.grid)}; ` +
      `${percent(Math.exp(log_probs[index]))} likely here`;
    this.#actions.say(note.textContent);
  }

  #hideLook() {
    this.#parts.look.hidden = this.#parts["look-note"].hidden = true;
  }

  #edit() {
    this.#editor.open(this.#picture.text ?? this.#picture.captions[0].caption);
    this.#hideLook();
    this.#shown = {};
    this.#actions.change(this.#picture, { isEditing: true });
  }

  /** What was saved is reviewed, also where nothing was changed. */
  #edited(text) {
    this.#actions.change(this.#picture, { isEditing: false, ...(text !== null && this.#decided(text)) });
    this.#parts.edit.focus();
  }

  #decided(text) {
    const { captions, written } = this.#picture;
    const index = captions.findIndex(({ caption }) => caption === text);
    if (index >= 0) return { chosen: index, edited: null, reviewed: true };
    return { edited: text, written: text || written, reviewed: true };
  }

  #pick(index) {
    const { written } = this.#picture;
    const fields = index === null ? { edited: written } : { chosen: index, edited: null };
    this.#actions.change(this.#picture, { ...fields, reviewed: true });
  }

  #review() {
    const reviewed = !this.#picture.reviewed;
    this.#actions.change(this.#picture, { reviewed });
    this.#actions.say(reviewed ? "Marked as reviewed." : "No longer marked as reviewed.");
  }

  async #copy() {
    const copied = await copy(this.#picture.text);
    const button = this.#parts.copy;
    button.textContent = copied ? "Copied" : "Not allowed";
    this.#actions.say(copied ? "Copied." : "The browser did not allow copying.");
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }
}

/** Text whose direction leaves that of the sentence around it alone. */
function isolated(text) {
  return `\u2068${text}\u2069`;
}

/** What the API's confidence is of this model, in words; nothing where the model does not tell. */
function sureness({ confidence }, { calibrated }) {
  if (confidence === null) return [];
  const share = percent(confidence);
  return [calibrated ? `${share} likely acceptable` : `On average ${share} sure of a word`];
}
