/** Progress and notices of the page, shown and told to screen readers. */

const PACE = 4000; // ms between spoken reports of progress

export class Status {
  #elements;
  #spoken = null;
  #timer = null;

  /** Elements: tally, progress, said, notice. */
  constructor(elements) {
    this.#elements = elements;
  }

  /** Read out by a screen reader, when it has finished what it says. */
  say(text) {
    const { said } = this.#elements;
    // The same words twice would not be read again: they have to differ.
    said.textContent = said.textContent === text ? `${text}\u00a0` : text;
  }

  /** How far it is: counts of pictures by their state. */
  show({ all, done, failed }) {
    const { tally, progress } = this.#elements;
    const left = all - done - failed;
    const text = tallied({ all, done, failed, left });
    tally.textContent = text;
    [progress.max, progress.value] = [Math.max(1, all), done + failed];
    progress.parentElement.toggleAttribute("data-busy", left > 0);
    document.title = left ? `(${done + failed}/${all}) showtell` : "showtell";
    if (this.#spoken === text || !all) return;
    if (!left) this.#report(text);
    else this.#timer ??= setTimeout(() => this.#report(tally.textContent), PACE);
  }

  #report(text) {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#spoken = text;
    this.say(text);
  }

  /** A line that stays until it is hidden; `button` is [text, handler]. */
  notice(text, button) {
    const { notice } = this.#elements;
    const element = notice.querySelector("button");
    const changed = notice.hidden || notice.querySelector("p").textContent !== text;
    notice.querySelector("p").textContent = text;
    element.hidden = !button;
    if (button) [element.textContent, element.onclick] = button;
    notice.hidden = false;
    if (changed) this.say(text);
  }

  hideNotice() {
    this.#elements.notice.hidden = true;
  }
}

function tallied({ all, done, failed, left }) {
  const pictures = all === 1 ? "1 picture" : `${all} pictures`;
  const failures = failed ? `, ${failed} failed` : "";
  if (left) return `${done} of ${pictures} captioned${failures}`;
  return done === all ? `${pictures} captioned` : `${done} of ${pictures} captioned${failures}`;
}
