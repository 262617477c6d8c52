/** Small copies of pictures to show, so that hundreds of photos take megabytes and not gigabytes. */

const AT_ONCE = 2; // whole pictures in memory

const worker = new Worker(new URL("shrink.js", import.meta.url));
const waiting = [];
const running = new Map(); // from a number to what its promise is settled with
let number = 0;

/** A {url, width, height} of `file`, or null where the browser cannot decode it. */
export function preview(file) {
  return new Promise((resolve) => {
    waiting.push({ file, resolve });
    pump();
  });
}

function pump() {
  while (running.size < AT_ONCE && waiting.length) {
    const { file, resolve } = waiting.shift();
    number += 1;
    running.set(number, resolve);
    worker.postMessage({ number, file });
  }
}

worker.onmessage = ({ data: { number, small } }) => {
  const resolve = running.get(number);
  running.delete(number);
  pump();
  resolve(small && { url: URL.createObjectURL(small.blob), width: small.width, height: small.height });
};
