/** Names of files: safe inside an archive on the visitor's system, and no two alike. */

const IS_WINDOWS = /^win/i.test(navigator.userAgentData?.platform ?? navigator.platform);
const UNSAFE = /[\u0000-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const UNSAFE_ON_WINDOWS = /[<>:"|?*]/g;
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i; // devices, on Windows, with any suffix
const MAX_BYTES = 180; // a part; the usual file systems take 255, and a suffix is still to come

/** A relative path without anything that climbs, hides or cannot be written. */
export function safePath(name, isWindows = IS_WINDOWS) {
  const parts = name.split(/[/\\]/).map((part) => safePart(part, isWindows));
  return parts.filter(Boolean).join("/") || "picture";
}

function safePart(part, isWindows) {
  const plain = part.replace(UNSAFE, "_").replace(/^[. ]*\./, "");
  if (!plain.trim()) return "";
  if (!isWindows) return shortened(plain);
  const narrow = plain.replace(UNSAFE_ON_WINDOWS, "_").replace(/[. ]+$/, "");
  return shortened(RESERVED.test(narrow) ? `_${narrow}` : narrow);
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

/** The date and time in UTC, for the name of a picture that is made now: `20261201-134512`. */
export function timestamp() {
  return new Date().toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
}

/** A path's stem and its suffix with the dot. */
export function split(path) {
  const dot = path.lastIndexOf(".");
  return dot > path.lastIndexOf("/") + 1 ? [path.slice(0, dot), path.slice(dot)] : [path, ""];
}

/**
 * The text files that go with pictures: `cat.jpg` has `cat.txt`, or `cat.jpg.txt` where a
 * `cat.png` has the former. `showtell train` reads both. Neither case nor the form of accents
 * (composed or not) tells names apart, as on many disks.
 */
export function sidecarNames(names, isWindows = IS_WINDOWS) {
  const taken = new Set();
  return names.map((name) => {
    const path = safePath(name, isWindows);
    const [stem] = split(path);
    for (const candidate of candidates(stem, path)) {
      const key = candidate.normalize("NFC").toLowerCase();
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
