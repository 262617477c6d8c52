/** The page: pictures come in, are captioned a few at a time, and go out as text. */

import { keepToken, NeedsToken, Refused, TryLater } from "./api.js";
import { Attempts } from "./attempts.js";
import { Bar } from "./bar.js";
import { Camera, isPossible } from "./camera.js";
import { Card } from "./card.js";
import { askToken, confirm } from "./dialogs.js";
import { nextFrame } from "./frames.js";
import { listen } from "./intake.js";
import { Models } from "./models.js";
import { Pictures } from "./pictures.js";
import { preview } from "./preview.js";
import { Queue } from "./queue.js";
import { remarks, Status } from "./status.js";

const AT_ONCE = 4; // requests: the server puts those that meet into one batch
const LONG = 3; // waits after which the server's log may have to be read
const CHUNK = 50; // cards made between two frames

const get = (id) => document.getElementById(id);
const status = new Status({
  tally: get("tally"), progress: get("progress"), said: get("said"), notice: get("notice"),
  remarks: get("remarks"),
});
const pictures = new Pictures();
const cards = new Map();
const models = new Models(get("model"), showAll, (name, latest) => {
  status.remark(`The server does not have the model ${name} any more: ${latest} captions from here on.`);
});
const attempts = new Attempts(models, () => (queue.slots = 1));
let isAsking = false; // for a token

const queue = new Queue({
  slots: AT_ONCE,
  work: caption,
  onStart: (picture) => pictures.set(picture, { state: "captioning" }),
  onBack: (picture) => pictures.set(picture, { state: "waiting" }),
  onGiveUp: (picture, { reason }) => pictures.set(picture, { state: "failed", reason }),
  onHold: (error, seconds, count) => {
    const wait = seconds < 1.5 ? "a second" : `${Math.round(seconds)} seconds`;
    const said = [`${error.reason ?? error.message} Nothing is lost; trying again in ${wait}.`];
    if (error.reason && count >= LONG) said.push("Whoever runs the server finds more in its log.");
    status.notice(said.join(" "), ["Try now", () => queue.resume()]);
  },
  onFree: () => {
    status.hideNotice();
    models.load().catch(() => {}); // another program may have taken its place
  },
});

/** Caption one picture, whatever comes of it; whether it has a caption. */
async function caption(picture, signal) {
  try {
    const { captions, model } = await attempts.caption(picture, signal);
    const chosen = captions[0].isWithheld ? null : 0;
    pictures.set(picture, { state: "done", captions, chosen, model });
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    if (error instanceof NeedsToken) {
      queue.stop();
      demandToken(error.refused);
      throw new TryLater(error.message);
    }
    const reason = error instanceof TryLater ? await attempts.cutOff(error, picture) : told(error);
    if (!reason) throw error;
    pictures.set(picture, { state: "failed", reason });
    return false;
  }
}

function told(error) {
  if (error instanceof Refused) return error.message;
  console.error(error); // an answer that is not of this API, or a fault of this page
  return "The answer could not be understood.";
}

async function demandToken(refused) {
  if (isAsking) return;
  isAsking = true;
  const token = await askToken(get("token"), refused);
  isAsking = false;
  if (token) {
    keepToken(token);
    status.hideNotice();
    start();
  } else {
    status.notice("This server asks for a token.", ["Enter token", () => demandToken(refused)]);
  }
}

/** Learn of the models, also where the server is not there yet. */
async function start() {
  try {
    await models.load();
    status.hideNotice();
    queue.resume();
  } catch (error) {
    if (error instanceof NeedsToken) {
      demandToken(error.refused);
    } else {
      status.notice(`${error.message} Trying again in 3 seconds.`, null);
      setTimeout(start, 3000);
    }
  }
  showAll();
}

async function take(files, skipped) {
  models.load().catch(() => {}); // where they cannot be had, the pictures' own requests tell
  const added = [];
  for (let at = 0; at < files.length; at += CHUNK) {
    const some = pictures.add(files.slice(at, at + CHUNK));
    queue.add(some);
    added.push(...some);
    await nextFrame();
  }
  const renamed = added.filter(({ name, given, isMadeHere }) => name !== given && !isMadeHere);
  const text = remarks({ skipped, doubles: files.length - added.length, renamed });
  if (text) status.remark(text);
}

const actions = {
  say: (text) => status.say(text),
  change: (picture, fields) => {
    const isCaptionSaved = picture.isCaptionSaved && fields.reviewed === undefined;
    pictures.set(picture, { ...fields, isCaptionSaved });
  },
  remove: async (picture) => {
    if (!(await mayRemove(picture))) return;
    const next = cards.get(picture.id).element.nextElementSibling?.querySelector(".remove");
    remove([picture]);
    (next ?? get("choose")).focus();
  },
  retry: (picture) => again([picture]),
};

/** Asks where a person's own words would be lost, or a picture that is nowhere else. */
async function mayRemove({ name, written, isEditing, isFileSaved }) {
  const isWritten = written !== null || isEditing;
  if (!isWritten && isFileSaved) return true;
  const what = isWritten ? "The caption that you wrote goes with it." : "It is in this tab alone.";
  return confirm(get("confirm"), `Remove ${name}?`, what);
}

function again(some) {
  models.load().catch(() => {});
  for (const picture of some) pictures.set(picture, { state: "waiting", cuts: 0 });
  queue.add(some);
}

function remove(some) {
  queue.remove(some);
  pictures.remove(some);
}

const bar = new Bar({ pictures, models, status, again, remove });

pictures.addEventListener("added", ({ detail: added }) => {
  const fragment = document.createDocumentFragment();
  for (const picture of added) {
    const card = new Card(picture, actions);
    cards.set(picture.id, card);
    card.render();
    fragment.append(card.element);
    preview(picture.file).then((found) => {
      if (pictures.has(picture)) pictures.set(picture, { preview: found });
      else if (found) URL.revokeObjectURL(found.url);
    });
  }
  get("cards").append(fragment);
  showAll();
});

pictures.addEventListener("removed", ({ detail: gone }) => {
  for (const picture of gone) {
    cards.get(picture.id).element.remove();
    cards.delete(picture.id);
  }
  showAll();
});

pictures.addEventListener("change", ({ detail: picture }) => {
  cards.get(picture.id).render();
  showAll();
});

let isDue = false;

/** What is said of all pictures, once a frame at most. */
async function showAll() {
  if (isDue) return;
  isDue = true;
  await nextFrame();
  isDue = false;
  const counts = pictures.counts;
  status.show(counts);
  document.body.toggleAttribute("data-empty", !counts.all);
  bar.show(counts);
}

listen({ input: get("files"), choose: get("choose"), onFiles: take });
if (isPossible()) {
  const camera = new Camera(get("camera"), (file) => {
    take([{ file, given: file.name, path: file.name, isMadeHere: true }], 0);
  });
  get("use-camera").hidden = false;
  get("use-camera").addEventListener("click", () => camera.open());
}
start();
