/** Small copies of pictures to show, so that hundreds of photos take megabytes and not gigabytes. */

const SIDE = 720; // px of the longer side: a card's width on a fine screen
const AT_ONCE = 2; // whole pictures in memory

const waiting = [];
let running = 0;

/** A {url, width, height} of `file`, or null where the browser cannot decode it. */
export function preview(file) {
  return new Promise((resolve) => {
    waiting.push({ file, resolve });
    pump();
  });
}

async function pump() {
  if (running >= AT_ONCE || !waiting.length) return;
  running += 1;
  const { file, resolve } = waiting.shift();
  try {
    resolve(await smaller(file));
  } catch {
    resolve(null); // TIFF and the like; the server may still read it
  }
  running -= 1;
  pump();
}

async function smaller(file) {
  const bitmap = await createImageBitmap(file); // upright, by the EXIF tag
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "white"; // under what is transparent, as the server does
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.86));
  return { url: URL.createObjectURL(blob), width: canvas.width, height: canvas.height };
}
