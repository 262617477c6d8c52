/**
 * A queue that does a few pieces of work at a time and pauses while the server cannot take any.
 *
 * When a piece throws TryLater, it goes back to its place and nothing is sent for a while: as long
 * as the server asked, or 1, 2, 4, 8, ... seconds. Then one piece is tried alone; if it succeeds,
 * the others follow. A piece whose error has a reason of its own goes to the end the second time. It
 * is given up when it fails alone for the third time or later while others succeeded; as long as
 * none succeeds, the server is to blame, and the queue goes on.
 */

import { TryLater } from "./api.js";

const LONGEST = 15; // s between attempts
const AT_PLACE = 1; // attempts of a piece that leave it at its place
const ATTEMPTS = 3; // that a piece is given, where others succeed

export class Queue {
  #waiting = [];
  #running = new Map(); // piece to its AbortController
  #attempts = new WeakMap(); // of pieces that failed for a reason: their count, and #succeeded before
  #succeeded = 0; // pieces
  #strikes = 0;
  #timer = null;
  #stopped = false;

  /**
   * `work(piece, signal)` does one and settles everything but TryLater itself; it tells whether it
   * succeeded. `onHold(error, seconds, count)` is told of each wait and how many there
   * were without a success, `onFree()` when it is over;
   * `onStart(piece)` and `onBack(piece)` as one begins, and as it has to wait again;
   * `onGiveUp(piece, error)` as one is given up.
   */
  constructor({ work, slots, onStart, onBack, onGiveUp, onHold, onFree }) {
    Object.assign(this, { work, slots, onStart, onBack, onGiveUp, onHold, onFree });
  }

  add(pieces) {
    for (const piece of pieces) {
      this.#attempts.delete(piece);
      this.#waiting.push(piece);
    }
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
    const isAlone = this.#strikes > 0;
    this.#running.set(piece, controller);
    this.onStart(piece);
    try {
      this.#succeeded += Boolean(await this.work(piece, controller.signal));
      if (!controller.signal.aborted) this.#got_through();
    } catch (error) {
      if (!(error instanceof TryLater)) throw error;
      if (!controller.signal.aborted) this.#failed(piece, error, isAlone);
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

  #failed(piece, error, isAlone) {
    const { count, before } = this.#attempts.get(piece) ?? { count: 0, before: this.#succeeded };
    const attempts = count + (error.reason !== null);
    this.#attempts.set(piece, { count: attempts, before });
    if (isAlone && attempts >= ATTEMPTS && this.#succeeded > before) {
      this.onGiveUp(piece, error);
      if (this.length === 1) this.#got_through(); // nothing else is to be waited for
      return;
    }
    if (attempts <= AT_PLACE) this.#waiting.unshift(piece);
    else this.#waiting.push(piece);
    this.#hold(piece, error);
  }

  #hold(piece, error) {
    this.onBack(piece);
    if (this.#timer || this.#stopped) return; // others in flight had told already
    const seconds = error.seconds ?? Math.min(LONGEST, 2 ** this.#strikes);
    this.#strikes += 1;
    const jitter = 1 + Math.random() / 4; // so that many pages do not come back as one
    this.#timer = setTimeout(() => this.resume(), seconds * jitter * 1000);
    this.onHold(error, seconds, this.#strikes);
  }
}
