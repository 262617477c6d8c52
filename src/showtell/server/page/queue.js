/**
 * A queue that does a few pieces of work at a time and pauses while the server cannot take any.
 *
 * When a piece throws TryLater, it goes back to its place and nothing is sent for a while: as long
 * as the server asked, or 1, 2, 4, 8, ... seconds. Then one piece is tried alone; if it succeeds,
 * the others follow. The queue never gives up.
 */

import { TryLater } from "./api.js";

const LONGEST = 15; // s between attempts

export class Queue {
  #waiting = [];
  #running = new Map(); // piece to its AbortController
  #strikes = 0;
  #timer = null;
  #stopped = false;

  /**
   * `work(piece, signal)` does one and settles everything but TryLater itself; `onHold(error,
   * seconds)` is told of each wait, `onFree()` when it is over; `onStart(piece)` and
   * `onBack(piece)` as one begins, and as it has to wait again.
   */
  constructor({ work, slots, onStart, onBack, onHold, onFree }) {
    Object.assign(this, { work, slots, onStart, onBack, onHold, onFree });
  }

  add(pieces) {
    for (const piece of pieces) this.#waiting.push(piece);
    this.#pump();
  }

  /** Forget pieces, whether they wait or run. */
  remove(pieces) {
    const gone = new Set(pieces);
    this.#waiting = this.#waiting.filter((piece) => !gone.has(piece));
    for (const piece of gone) this.#running.get(piece)?.abort();
    this.#pump();
  }

  get length() {
    return this.#waiting.length + this.#running.size;
  }

  /** Nothing more is begun until `resume`. */
  stop() {
    this.#stopped = true;
  }

  /** Go on now, whatever was waited for. */
  resume() {
    this.#stopped = false;
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#pump();
  }

  #pump() {
    const slots = this.#strikes ? 1 : this.slots; // after a failure one goes first
    while (!this.#stopped && !this.#timer && this.#waiting.length && this.#running.size < slots) {
      this.#run(this.#waiting.shift());
    }
  }

  async #run(piece) {
    const controller = new AbortController();
    this.#running.set(piece, controller);
    this.onStart(piece);
    try {
      await this.work(piece, controller.signal);
      if (!controller.signal.aborted) this.#got_through();
    } catch (error) {
      if (!(error instanceof TryLater)) throw error;
      if (!controller.signal.aborted) this.#hold(piece, error);
    } finally {
      this.#running.delete(piece);
      this.#pump();
    }
  }

  #got_through() {
    if (!this.#strikes) return;
    this.#strikes = 0;
    this.onFree();
  }

  #hold(piece, error) {
    this.#waiting.unshift(piece);
    this.onBack(piece);
    if (this.#timer || this.#stopped) return; // others in flight had told already
    const seconds = error.seconds ?? Math.min(LONGEST, 2 ** this.#strikes);
    this.#strikes += 1;
    const jitter = 1 + Math.random() / 4; // so that many pages do not come back as one
    this.#timer = setTimeout(() => this.resume(), seconds * jitter * 1000);
    this.onHold(error, seconds);
  }
}
