// Frames of the views, fetched a block at a time when they are looked at, drawn when they are there.

import { getBytes } from "./api.js";

const KEPT_BYTES = 128 * 2 ** 20;

export class Frames {
  constructor(container, { cameras, block }) {
    this.block = block;
    this.kept = new Map(); // address -> promise of {frames: [Blob | null], errors}; the one asked for last is last
    this.bytes = 0;
    this.views = cameras.map((camera) => {
      const figure = document.createElement("figure");
      const canvas = document.createElement("canvas");
      const caption = document.createElement("figcaption");
      const fault = document.createElement("p");
      caption.textContent = camera.replaceAll("_", " ");
      fault.className = "fault";
      fault.hidden = true;
      canvas.dataset.camera = camera;
      canvas.width = 320;
      canvas.height = 240;
      figure.append(canvas, fault, caption);
      container.append(figure);
      return { camera, canvas, fault, shown: null };
    });
  }

  open(episode, length) {
    this.episode = episode;
    this.length = length;
  }

  // Draws the frame in every view; resolves when all of them show it or a later call has taken over.
  show(frame) {
    const wanted = `${this.episode}/${frame}`;
    return Promise.all(this.views.map((view) => this.draw(view, frame, wanted)));
  }

  async draw(view, frame, wanted) {
    view.wanted = wanted;
    const number = Math.floor(frame / this.block);
    const place = frame % this.block;
    let blob = null;
    let message = "";
    try {
      const { frames, errors } = await this.fetch(view.camera, number);
      blob = frames[place];
      message = errors[place] ?? "";
    } catch (error) {
      message = error.message;
    }
    const picture = blob && view.wanted === wanted ? await createImageBitmap(blob) : null;
    if (view.wanted !== wanted) return;
    view.fault.hidden = !message;
    view.fault.textContent = message;
    if (picture) {
      if (view.canvas.width !== picture.width || view.canvas.height !== picture.height) {
        view.canvas.width = picture.width;
        view.canvas.height = picture.height;
      }
      view.canvas.getContext("2d").drawImage(picture, 0, 0);
      picture.close();
    } else {
      view.canvas.getContext("2d").clearRect(0, 0, view.canvas.width, view.canvas.height);
    }
    view.canvas.dataset.shown = wanted;
    const beyond = place > this.block / 2 ? number + 1 : number - 1;
    if (beyond >= 0 && beyond * this.block < this.length) this.fetch(view.camera, beyond).catch(() => {});
  }

  fetch(camera, number) {
    const address = `api/episodes/${this.episode}/frames/${camera}/${number}`;
    let kept = this.kept.get(address);
    this.kept.delete(address);
    kept ??= getBytes(address).then((bytes) => this.read(bytes)).catch((error) => {
      this.kept.delete(address); // asked again the next time
      throw error;
    });
    this.kept.set(address, kept);
    return kept;
  }

  read(bytes) {
    this.bytes += bytes.byteLength;
    for (const [address, kept] of this.kept) {
      if (this.bytes <= KEPT_BYTES || this.kept.size < 12) break;
      this.kept.delete(address);
      kept.then((block) => { this.bytes -= block.size; }, () => {});
    }
    const length = new DataView(bytes).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
    let offset = 4 + length;
    const frames = head.sizes.map((size) => {
      const jpeg = size ? new Blob([new Uint8Array(bytes, offset, size)], { type: "image/jpeg" }) : null;
      offset += size;
      return jpeg;
    });
    return { frames, errors: head.errors, size: bytes.byteLength };
  }
}
