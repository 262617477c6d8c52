/** One picture's request: smaller on a slow connection, and once more where the models have changed. */

import { captionPicture, NoAnswer, Refused, TooSlow } from "./api.js";
import { smallCopy } from "./preview.js";

const CUTS = 3; // requests of one picture that are cut off, before it is given up
const LARGE = 1_000_000; // bytes from which a file is made smaller for a slow connection
const UNPROCESSABLE = 422; // a picture that is none, or a model or a setting that is not there

export class Attempts {
  #models;
  #onSlow;
  #isSlow = false;

  /** `onSlow()` is told once, when an upload was too slow for the server. */
  constructor(models, onSlow) {
    this.#models = models;
    this.#onSlow = onSlow;
  }

  /** Ask for a picture's captions: them, and the `model` that they are of. */
  async caption(picture, signal) {
    if (!this.#models.chosen) await this.#models.load();
    const file = await this.#toSend(picture.file);
    picture.sent = file.size;
    try {
      return await this.#ask(file, signal);
    } catch (error) {
      if (error instanceof TooSlow && !this.#isSlow) {
        this.#isSlow = true;
        this.#onSlow();
      }
      throw error;
    }
  }

  async #toSend(file) {
    if (!this.#isSlow || file.size < LARGE) return file;
    const copy = await smallCopy(file);
    return copy && copy.size < file.size ? copy : file; // none of a TIFF, for example
  }

  /** Another server may have taken the place of the one whose models are known. */
  async #ask(file, signal) {
    const model = this.#models.chosen;
    try {
      return { model, captions: await captionPicture(file, model, signal) };
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== UNPROCESSABLE) throw error;
      await this.#models.load();
      const latest = this.#models.chosen;
      if (JSON.stringify(latest) === JSON.stringify(model)) throw error;
      return { model: latest, captions: await captionPicture(file, latest, signal) };
    }
  }

  /** Why a picture fails whose every request is cut off while the server is there: null if it may
   * yet get through. A server that refuses a huge file may hang up before a browser hears why. */
  async cutOff(error, picture) {
    if (error instanceof TooSlow) picture.cuts += 1;
    else if (error instanceof NoAnswer) picture.cuts += await this.#models.load().then(() => 1, () => 0);
    else return null;
    if (picture.cuts < CUTS) return null;
    return error instanceof TooSlow
      ? `The connection is too slow: ${amount(picture.sent)} did not arrive in the time that the server gives.`
      : "The server hangs up when this picture is sent: it may be too large.";
  }
}

function amount(bytes) {
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1000)} kB`;
}
