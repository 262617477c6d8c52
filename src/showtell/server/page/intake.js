/**
 * How pictures come in: chosen, dropped (folders too), or pasted. Gives {file, given, path, isMadeHere}:
 * `given` is the picture's name, `path` the file's with all the folders that the browser tells, and
 * `isMadeHere` is true for pictures that no folder has.
 */

import { timestamp } from "./names.js";

const SUFFIX = /\.(jpe?g|jpe|jfif|png|webp|gif|tiff?|bmp|p[bgpn]m|avif|hei[cf]|hif)$/i;

let count = 0; // of pasted pictures

/** `onFiles(files, skipped)`: `skipped` counts files that are not pictures. */
export function listen({ input, choose, onFiles }) {
  const deliver = (files) => {
    const pictures = files.filter(({ file }) => isPicture(file));
    onFiles(pictures, files.length - pictures.length);
  };
  choose.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    deliver([...input.files].map(plain));
    input.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length || isForText(event)) return;
    event.preventDefault();
    deliver(files.map(pasted));
  });
  listenToDrops(deliver);
}

function isPicture(file) {
  return file.type.startsWith("image/") || SUFFIX.test(file.name);
}

/** Excel and Word put a picture of what they copy beside its text. */
function isForText({ target, clipboardData }) {
  return target.closest?.("input, textarea") && clipboardData.types.includes("text/plain");
}

/** A file that comes without a folder. */
function plain(file) {
  return { file, given: file.name, path: file.webkitRelativePath || file.name };
}

/** Browsers call every picture image.png that was not copied as a file. The time tells it from those of
 * other tabs and of the page before a reload, so that their saved files can lie in one folder. */
function pasted(file) {
  if (!/^image\.\w+$/.test(file.name)) return plain(file);
  count += 1;
  const name = file.name.replace("image", `pasted-${timestamp()}-${count}`);
  return { file, given: name, path: name, isMadeHere: true };
}

function listenToDrops(deliver) {
  let depth = 0; // of elements entered and not left
  const mark = () => document.body.toggleAttribute("data-dragging", depth > 0);
  const isFiles = (event) => event.dataTransfer.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (isFiles(event)) depth += 1;
    mark();
  });
  addEventListener("dragleave", (event) => {
    if (isFiles(event)) depth = Math.max(0, depth - 1);
    mark();
  });
  addEventListener("dragover", (event) => {
    if (isFiles(event)) event.preventDefault(); // this is what makes the page a place to drop on
  });
  addEventListener("drop", async (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    depth = 0;
    mark();
    // Entries must be taken before the first await: the list is emptied then.
    const items = [...event.dataTransfer.items];
    const entries = items.map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = [...event.dataTransfer.files].map(plain);
    const isFolder = entries.some(({ isDirectory }) => isDirectory);
    deliver(isFolder ? await walk(entries, rootOf(entries)) : files);
  });
}

/** The beginning of paths that names leave out: for a folder that is dropped alone also its name, so
 * that downloads saved in the folder find its pictures. */
function rootOf(entries) {
  return entries.length === 1 ? `${entries[0].fullPath}/` : "/";
}

/** All files of entries and of folders in them; they are given the name that begins after `root`. */
async function walk(entries, root) {
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) {
      const file = await new Promise((done) => entry.file(done, () => done(null)));
      const { fullPath } = entry;
      if (file) found.push({ file, given: fullPath.slice(root.length), path: fullPath.slice(1) });
    } else {
      found.push(...(await walk(await list(entry.createReader()), root)));
    }
  }
  return found;
}

/** A folder's entries, which are given a hundred at a time. */
async function list(reader) {
  const entries = [];
  for (;;) {
    const some = await new Promise((done) => reader.readEntries(done, () => done([])));
    if (!some.length) return entries;
    entries.push(...some);
  }
}
