/** A worker beside the page, so that it stays quick while photos are decoded and made small. */

const USES = {
  show: { side: Math.max, most: 720, quality: 0.86 }, // px: a card's width on a fine screen
  send: { side: Math.min, most: 1000, quality: 0.92 }, // px: more than models look at
};

onmessage = async ({ data: { number, file, use } }) => {
  let small = null;
  try {
    small = await shrink(file, USES[use]);
  } catch {
    // TIFF and the like; the server may still read it
  }
  postMessage({ number, small });
};

async function shrink(file, { side, most, quality }) {
  const bitmap = await createImageBitmap(file); // upright, by the EXIF tag
  const scale = Math.min(1, most / side(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "white"; // under what is transparent, as the server does
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { blob: await canvas.convertToBlob({ type: "image/jpeg", quality }), width, height };
}
