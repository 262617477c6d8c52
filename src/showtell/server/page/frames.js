/** Work that need not be done more often than the screen is drawn. */

const LATEST = 500; // ms: a hidden tab is not drawn at all

/** Settles before the next frame, or soon in a tab that has none. */
export function nextFrame() {
  return new Promise((resolve) => {
    requestAnimationFrame(resolve);
    setTimeout(resolve, LATEST);
  });
}
