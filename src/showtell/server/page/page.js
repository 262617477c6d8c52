/** The page: pictures come in, are captioned a few at a time, and go out as text. */

import { captionPicture, keepToken, NeedsToken, NoAnswer, Refused, TryLater } from "./api.js";
import { Bar } from "./bar.js";
import { Camera, isPossible } from "./camera.js";
import { Card } from "./card.js";
import { askToken, confirm } from "./dialogs.js";
import { listen } from "./intake.js";
import { Models } from "./models.js";
import { Pictures } from "./pictures.js";
import { preview } from "./preview.js";
import { Queue } from "./queue.js";
import { Status } from "./status.js";

const AT_ONCE = 4; // requests: the server puts those that meet into one batch
const CUTS = 3; // requests of one picture that are cut off, before it is given up
const CHUNK = 50; // cards made between two frames

const get = (id) => document.getElementById(id);
const status = new Status({
  tally: get("tally"), progress: get("progress"), said: get("said"), notice: get("notice"),
});
const pictures = new Pictures();
const cards = new Map();
const models = new Models(get("model"), showAll);
let isAsking = false; // for a token

const queue = new Queue({
  slots: AT_ONCE,
  work: caption,
  onStart: (picture) => pictures.set(picture, { state: "captioning" }),
  onBack: (picture) => pictures.set(picture, { state: "waiting" }),
  onGiveUp: (picture, { reason }) => pictures.set(picture, { state: "failed", reason }),
  onHold: (error, seconds) => {
    const wait = seconds < 1.5 ? "a second" : `${Math.round(seconds)} seconds`;
    const now = ["Try now", () => queue.resume()];
    status.notice(`${error.message} Nothing is lost; trying again in ${wait}.`, now);
  },
  onFree: () => {
    status.hideNotice();
    models.load().then(showAll, () => {}); // another program may have taken its place
  },
});

/** Caption one picture, whatever comes of it; whether it has a caption. */
async function caption(picture, signal) {
  try {
    if (!models.chosen) await models.load();
    const model = models.chosen;
    const captions = await captionPicture(picture.file, model, signal);
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
    const reason = error instanceof TryLater ? await hangingUp(error, picture) : told(error);
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

/** Why a picture fails whose every request is cut off while the server is there: null if it may yet
 * get through. A server that refuses a huge file may hang up before a browser hears why. */
async function hangingUp(error, picture) {
  if (!(error instanceof NoAnswer)) return null;
  const isThere = await models.load().then(() => true, () => false);
  picture.cuts += isThere;
  if (picture.cuts < CUTS) return null;
  picture.cuts = 0;
  return "The server hangs up when this picture is sent: it may be too large.";
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
  const before = pictures.counts.all;
  for (let at = 0; at < files.length; at += CHUNK) {
    queue.add(pictures.add(files.slice(at, at + CHUNK)));
    await new Promise(requestAnimationFrame);
  }
  const doubles = files.length - (pictures.counts.all - before);
  const left = [
    skipped && (skipped === 1 ? "1 file is not a picture" : `${skipped} files are not pictures`),
    doubles > 0 && (doubles === 1 ? "1 picture is here already" : `${doubles} pictures are here already`),
  ].filter(Boolean);
  if (left.length) status.notice(`Left out: ${left.join(", ")}.`, ["Close", () => status.hideNotice()]);
}

const actions = {
  say: (text) => status.say(text),
  change: (picture, fields) => {
    if (fields.edited && fields.edited !== picture.edited) bar.noteEdit();
    pictures.set(picture, fields);
  },
  remove: async (picture) => {
    if (!(await mayRemove(picture))) return;
    const next = cards.get(picture.id).element.nextElementSibling?.querySelector(".remove");
    remove([picture]);
    (next ?? get("choose")).focus();
  },
  retry: (picture) => again([picture]),
};

/** Asks where a person's own words would be lost. */
async function mayRemove({ name, edited, isEditing }) {
  if (edited === null && !isEditing) return true;
  return confirm(get("confirm"), `Remove ${name}?`, "The caption that you wrote goes with it.");
}

function again(some) {
  for (const picture of some) pictures.set(picture, { state: "waiting" });
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
function showAll() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    const counts = pictures.counts;
    status.show(counts);
    document.body.toggleAttribute("data-empty", !counts.all);
    bar.show(counts);
  });
}

listen({ input: get("files"), choose: get("choose"), onFiles: take });
if (isPossible()) {
  const camera = new Camera(get("camera"), (file) => take([[file, file.name]], 0));
  get("use-camera").hidden = false;
  get("use-camera").addEventListener("click", () => camera.open());
}
start();
