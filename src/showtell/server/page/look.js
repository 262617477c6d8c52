/** Where the model looked: a caption's attention, drawn over its picture and described in words. */

const DARK = 0.62; // of the light is taken where it did not look
const GLOW = 0.5, GLOW_FROM = 0.4; // of amber where it looked most; the light values that it begins at
const FINE = 8; // dots a cell before the browser smooths them
const DOWN = ["top", "", "bottom"], ACROSS = ["left", "", "right"];

/**
 * Dim `canvas` where `weights` (R,) are small, relative to the largest, and warm it where they are
 * large. The part that the model saw is framed.
 *
 * `grid` is [rows, columns]; `box` the part of the picture that the model saw: left, top, width and
 * height as shares of the picture's.
 */
export function drawLook(canvas, weights, [rows, columns], box) {
  const context = canvas.getContext("2d");
  const [left, top] = [box[0] * canvas.width, box[1] * canvas.height];
  const [width, height] = [box[2] * canvas.width, box[3] * canvas.height];
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = `rgb(0 0 0 / ${DARK})`;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.clearRect(left, top, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(shade(weights, rows, columns), left, top, width, height);
  context.strokeStyle = "rgb(255 255 255 / .45)";
  context.strokeRect(left, top, width, height);
}

/** A box: all of the picture. */
export const WHOLE = [0, 0, 1, 1];

/** The picture's central square, by its width and height in px; `share` is of the shorter one. */
export function centralSquare(width, height, share) {
  const side = share * Math.min(width, height);
  const [across, down] = [side / width, side / height];
  return [(1 - across) / 2, (1 - down) / 2, across, down];
}

function shade(weights, rows, columns) {
  const brightest = Math.max(...weights, 1e-12);
  const light = stretched(stretched(weights, rows, columns), columns * FINE, rows);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns * FINE, rows * FINE];
  const context = canvas.getContext("2d");
  const dots = context.createImageData(canvas.width, canvas.height);
  for (let y = 0; y < canvas.height; y += 1) {
    for (let x = 0; x < canvas.width; x += 1) {
      const value = Math.min(1, Math.max(0, light[y * canvas.width + x] / brightest));
      dots.data.set(colour(value), (y * canvas.width + x) * 4);
    }
  }
  context.putImageData(dots, 0, 0);
  return canvas;
}

/** Of a weight from 0 to 1: black that fades away, then amber that comes. */
function colour(value) {
  if (value < GLOW_FROM) return [0, 0, 0, 255 * DARK * (1 - value / GLOW_FROM)];
  return [255, 166, 33, (255 * GLOW * (value - GLOW_FROM)) / (1 - GLOW_FROM)];
}

/**
 * Each row of (rows, columns) stretched by FINE, and the whole turned over its diagonal: twice, it
 * is as it was, and stretched both ways. By Keys' cubic (1981, equation 15), a = -1/2, as Pillow's.
 */
function stretched(values, rows, columns) {
  const out = new Float32Array(rows * columns * FINE);
  for (let x = 0; x < columns * FINE; x += 1) {
    const place = (x + 0.5) / FINE - 0.5;
    const first = Math.floor(place) - 1;
    for (let tap = first; tap < first + 4; tap += 1) {
      const share = cubic(Math.abs(place - tap));
      const column = Math.min(columns - 1, Math.max(0, tap));
      for (let y = 0; y < rows; y += 1) out[x * rows + y] += share * values[y * columns + column];
    }
  }
  return out;
}

function cubic(x) {
  return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/** "at the top left", and how much more than evenly it looked there. */
export function describeLook(weights, [rows, columns]) {
  const total = weights.reduce((sum, weight) => sum + weight, 0) || 1;
  const at = weights.indexOf(Math.max(...weights));
  const [row, column] = [Math.floor(at / columns), at % columns];
  const where = [DOWN[third(row, rows)], ACROSS[third(column, columns)]].filter(Boolean).join(" ");
  const place = where ? `at the ${where}` : "in the middle";
  const ratio = (weights[at] / total) * weights.length;
  return ratio < 2 ? `almost evenly everywhere, most ${place}` : `mostly ${place}`;
}

function third(index, count) {
  return Math.min(2, Math.floor((3 * (index + 0.5)) / count));
}
