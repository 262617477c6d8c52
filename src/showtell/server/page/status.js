/** Progress and notices of the page, shown and told to screen readers. */

const PACE = 4000; // ms between spoken reports of progress

export class Status {
  #elements;
  #spoken = null;
  #timer = null;

  /** Elements: tally, progress, said, notice, remarks. */
  constructor(elements) {
    this.#elements = elements;
    elements.remarks.querySelector("button").addEventListener("click", () => this.#close());
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

  /** How it is with the server: one line, until there is another or it is hidden; `button` is
   * [text, handler], or null. */
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

  /** What a person has to read: it is added to the remarks, which stay until the person closes them. */
  remark(text) {
    const { remarks } = this.#elements;
    const list = remarks.querySelector("div");
    const isThere = [...list.children].some(({ textContent }) => textContent === text);
    if (!isThere) list.append(Object.assign(document.createElement("p"), { textContent: text }));
    remarks.hidden = false;
    this.say(text);
  }

  #close() {
    const { remarks } = this.#elements;
    remarks.hidden = true;
    remarks.querySelector("div").replaceChildren();
    remarks.closest("main").focus(); // the button itself is gone
  }
}

/** What has to be said of files that came in: what was left out, and which have another name. */
export function remarks({ skipped, doubles, renamed }) {
  const left = [
    skipped && (skipped === 1 ? "1 file is not a picture" : `${skipped} files are not pictures`),
    doubles && (doubles === 1 ? "1 picture is here already" : `${doubles} pictures are here already`),
  ].filter(Boolean);
  const said = left.length ? [`Left out: ${left.join(", ")}.`] : [];
  const hasFolder = ({ name, path }) => name === path;
  const inFolder = renamed.filter(hasFolder);
  if (inFolder.length) {
    const [folder] = inFolder[0].path.split("/"); // that of all: only a folder dropped alone gets here
    const [it, lost] = inFolder.length === 1
      ? ["it", "its caption does not find it"]
      : ["them", "their captions do not find them"];
    said.push(
      otherNames(inFolder),
      `Keep ${it} in a folder ${folder} beside the other pictures, or ${lost}.`,
    );
  }
  const numbered = renamed.filter((picture) => !hasFolder(picture));
  if (numbered.length) {
    const advice = numbered.length === 1
      ? "Rename its file to that, or its caption goes to the other."
      : "Rename their files to these, or their captions go to the others.";
    said.push(otherNames(numbered), advice);
  }
  return said.join(" ");
}

function otherNames(renamed) {
  if (renamed.length === 1) return `There is another ${renamed[0].given}: this one is ${renamed[0].name} here.`;
  const names = renamed.slice(0, 3).map(({ name }) => name);
  if (renamed.length > 3) names.push("…");
  return `${renamed.length} pictures have names that are here already: they are ${names.join(", ")} here.`;
}

function tallied({ all, done, failed, left }) {
  const pictures = all === 1 ? "1 picture" : `${all} pictures`;
  const failures = failed ? `, ${failed} failed` : "";
  if (left) return `${done} of ${pictures} captioned${failures}`;
  return done === all ? `${pictures} captioned` : `${done} of ${pictures} captioned${failures}`;
}
