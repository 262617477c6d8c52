/** Names of files inside an archive: safe on every system, and no two alike. */

const UNSAFE = /[\u0000-\u001f\u007f<>:"|?*\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i; // devices, on Windows, with any suffix
const MAX_BYTES = 180; // a part; the usual file systems take 255, and a suffix is still to come

/** A relative path without anything that climbs, hides or cannot be written. */
export function safePath(name) {
  const parts = name.normalize("NFC").split(/[/\\]/).map(safePart).filter(Boolean);
  return parts.join("/") || "picture";
}

function safePart(part) {
  const plain = part.replace(UNSAFE, "_").replace(/^[. ]+|[. ]+$/g, "");
  return shortened(RESERVED.test(plain) ? `_${plain}` : plain);
}

/** Cut in the middle of the name, so that the suffix stays. */
function shortened(part) {
  const encoder = new TextEncoder();
  if (encoder.encode(part).length <= MAX_BYTES) return part;
  const [stem, suffix] = split(part.length - part.lastIndexOf(".") > 12 ? `${part}.` : part);
  const characters = [...stem];
  while (encoder.encode(characters.join("") + suffix).length > MAX_BYTES) characters.pop();
  return characters.join("") + (suffix === "." ? "" : suffix);
}

/** A path's stem and its suffix with the dot. */
function split(path) {
  const dot = path.lastIndexOf(".");
  return dot > path.lastIndexOf("/") + 1 ? [path.slice(0, dot), path.slice(dot)] : [path, ""];
}

/**
 * The text files that go with pictures: `cat.jpg` has `cat.txt`, or `cat.jpg.txt` where a
 * `cat.png` has the former. `showtell train` reads both. Case is not told apart, as on many disks.
 */
export function sidecarNames(names) {
  const taken = new Set();
  return names.map((name) => {
    const path = safePath(name);
    const [stem] = split(path);
    for (const candidate of candidates(stem, path)) {
      const key = candidate.toLowerCase();
      if (!taken.has(key)) {
        taken.add(key);
        return candidate;
      }
    }
  });
}

function* candidates(stem, path) {
  yield `${stem}.txt`;
  yield `${path}.txt`;
  for (let number = 2; ; number += 1) yield `${path}-${number}.txt`;
}
