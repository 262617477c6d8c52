/** Pictures from the camera: a dialog that shows its image, and a button that takes a picture. */

import { timestamp } from "./names.js";

const REASONS = {
  NotAllowedError: "The browser was not allowed to use the camera. Its settings for this page can change that.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
};

/** Whether this browser, at this address, could have a camera. */
export function isPossible() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

async function cameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind }) => kind === "videoinput");
}

export class Camera {
  #dialog;
  #video;
  #shutter;
  #turn;
  #message;
  #onPicture;
  #stream = null;
  #which = { facingMode: "environment" };
  #taken = 0;

  /** `onPicture(file)` is given each picture. */
  constructor(dialog, onPicture) {
    this.#dialog = dialog;
    this.#onPicture = onPicture;
    this.#video = dialog.querySelector("video");
    this.#shutter = dialog.querySelector(".shutter");
    this.#turn = dialog.querySelector(".turn");
    this.#message = dialog.querySelector(".message");
    this.#shutter.addEventListener("click", () => this.#take());
    this.#turn.addEventListener("click", () => this.#turnAround());
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => this.#stop()); // by Escape, too
    this.#video.addEventListener("playing", () => (this.#shutter.disabled = false));
  }

  async open() {
    this.#taken = 0;
    this.#message.textContent = "Waiting for the camera…";
    this.#dialog.showModal();
    await this.#start();
  }

  async #start() {
    try {
      const video = { ...this.#which, width: { ideal: 1920 }, height: { ideal: 1080 } };
      const stream = await navigator.mediaDevices.getUserMedia({ video });
      if (!this.#dialog.open) {
        for (const track of stream.getTracks()) track.stop(); // closed while it was asked for
        return;
      }
      this.#stream = this.#video.srcObject = stream;
      await this.#video.play();
      this.#message.textContent = "";
      this.#shutter.focus();
      this.#turn.hidden = (await cameras()).length < 2;
    } catch (error) {
      if (!this.#dialog.open) return;
      this.#message.textContent = REASONS[error.name] ?? `The camera does not start: ${error.message}`;
    }
  }

  #stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = this.#video.srcObject = null;
    this.#shutter.disabled = true;
  }

  /** Go to the next camera. That of a computer has no side that it faces. */
  async #turnAround() {
    const ids = (await cameras()).map(({ deviceId }) => deviceId);
    const now = this.#stream?.getVideoTracks()[0].getSettings().deviceId;
    this.#which = { deviceId: { exact: ids[(ids.indexOf(now) + 1) % ids.length] } };
    this.#stop();
    await this.#start();
  }

  async #take() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.#video.videoWidth, this.#video.videoHeight];
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    this.#taken += 1;
    const number = String(this.#taken).padStart(2, "0");
    this.#onPicture(new File([blob], `camera-${timestamp()}-${number}.jpg`, { type: "image/jpeg" }));
    this.#message.textContent = this.#taken === 1 ? "1 picture taken." : `${this.#taken} pictures taken.`;
  }
}
