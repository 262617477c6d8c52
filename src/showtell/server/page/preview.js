/**
 * Small copies of pictures: to show, so that hundreds of photos take megabytes and not gigabytes, and
 * to send where the connection is slow.
 */

const AT_ONCE = 2; // whole pictures in memory

const worker = new Worker(new URL("shrink.js", import.meta.url));
const waiting = [];
const running = new Map(); // from a number to what its promise is settled with
let number = 0;

/** A {url, width, height} of `file`, or null where the browser cannot decode it. */
export async function preview(file) {
  const small = await new Promise((resolve) => {
    waiting.push({ file, use: "show", resolve });
    pump();
  });
  return small && { url: URL.createObjectURL(small.blob), width: small.width, height: small.height };
}

/** A smaller `file`, a JPEG as a Blob, or null where the browser cannot decode it. */
export async function smallCopy(file) {
  const small = await new Promise((resolve) => {
    waiting.unshift({ file, use: "send", resolve }); // before the hundreds that are only to be shown
    pump();
  });
  return small && small.blob;
}

function pump() {
  while (running.size < AT_ONCE && waiting.length) {
    const { file, use, resolve } = waiting.shift();
    number += 1;
    running.set(number, resolve);
    worker.postMessage({ number, file, use });
  }
}

worker.onmessage = ({ data: { number, small } }) => {
  const resolve = running.get(number);
  running.delete(number);
  pump();
  resolve(small);
};
