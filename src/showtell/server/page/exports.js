/** Captions as files: CSV, JSON lines, text files in a zip. All that can be read by `showtell`. */

import { safePath, sidecarNames } from "./names.js";
import { zip } from "./zip.js";

const COLUMNS = ["path", "caption", "confidence", "log_prob", "model", "edited"];

/**
 * How each format is written, and as which file. `make(pictures, all, files)` writes the captions of
 * `pictures`, which have one; `all` are those on the page, and `files` those that have to come along.
 */
export const FORMATS = {
  csv: {
    name: "captions.csv",
    make: (pictures) => new Blob([csv(pictures)], { type: "text/csv;charset=utf-8" }),
  },
  jsonl: {
    name: "captions.jsonl",
    make: (pictures) => new Blob([jsonl(pictures)], { type: "application/jsonl" }),
  },
  zip: {
    name: "captions.zip",
    hasFiles: true,
    make: async (pictures, all, files) => {
      const names = sidecarNames(all.map(({ name }) => name)); // of all: each keeps its own
      const nameOf = new Map(all.map((picture, index) => [picture, names[index]]));
      const texts = pictures.map((picture) => [nameOf.get(picture), `${picture.text}\n`]);
      const beside = files.map(async ({ name, file }) => {
        return [safePath(name), new Uint8Array(await file.arrayBuffer())];
      });
      return zip([...texts, ...(await Promise.all(beside))]);
    },
  },
};

/** A row a picture as RFC 4180 has them. */
function csv(pictures) {
  const rows = pictures.map((picture) => {
    const record = recordOf(picture);
    return COLUMNS.map((column) => cell(record[column]));
  });
  return [COLUMNS, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

function cell(value) {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
}

function jsonl(pictures) {
  return pictures
    .map((picture) => {
      const others = picture.captions.filter((_, index) => isWritten(picture) || index !== picture.chosen);
      return { ...recordOf(picture), alternatives: others.map(withoutAttention) };
    })
    .map((record) => `${JSON.stringify(record)}\n`)
    .join("");
}

/** What the model thinks of a caption does not hold for words that a person wrote. */
function recordOf(picture) {
  const { name: path, text: caption, reviewed: edited } = picture;
  const model = picture.model.name;
  const figures = isWritten(picture)
    ? { confidence: null, log_prob: null }
    : withoutAttention(picture.captions[picture.chosen]);
  return { path, ...figures, caption, model, edited };
}

function isWritten(picture) {
  return picture.edited !== null;
}

/** With what the model said, where the clean-up has changed it. */
function withoutAttention({ caption, confidence, log_prob, words, log_probs, raw }) {
  return { caption, confidence, log_prob, words, log_probs, ...(raw !== undefined && { raw }) };
}

/** Captions with their pictures' names, to be pasted into a text or a table. */
export function asText(pictures) {
  return pictures.map((picture) => `${picture.name}\t${picture.text}`).join("\n");
}

/** Hand a Blob to the browser as a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser has read it by then
}
