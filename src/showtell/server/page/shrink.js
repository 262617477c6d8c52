/** A worker beside the page, so that it stays quick while photos are decoded and made small. */

const SIDE = 720; // px of the longer side: a card's width on a fine screen

onmessage = async ({ data: { number, file } }) => {
  let small = null;
  try {
    small = await shrink(file);
  } catch {
    // TIFF and the like; the server may still read it
  }
  postMessage({ number, small });
};

async function shrink(file) {
  const bitmap = await createImageBitmap(file); // upright, by the EXIF tag
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "white"; // under what is transparent, as the server does
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { blob: await canvas.convertToBlob({ type: "image/jpeg", quality: 0.86 }), width, height };
}
