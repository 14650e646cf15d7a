// Saves what is done, one request at a time: what is done meanwhile goes with the next. Nothing is thrown away
// silently: the page says what is not saved and why, and asks when somebody else saved the same episode.

import { ApiError, get, put } from "./api.js";

const AGAIN = 2000; // ms before a service that does not answer is asked again
const EDITABLE = ["start", "end", "atomic_action", "arm", "task", "sub_task", "verb", "objects", "review_state"];
const said = (segment) => Object.fromEntries(EDITABLE.map((name) => [name, segment[name]]));

export class Saving {
  // shown: where the state is told; saved(segments): as the service keeps them; replaced(segments): by somebody else's
  constructor({ shown, saved, replaced }) {
    Object.assign(this, { shown, saved, replaced, waiting: null, running: null });
    addEventListener("beforeunload", (event) => {
      if (this.waiting || this.running) event.preventDefault();
    });
  }

  open(episode, revision) {
    Object.assign(this, { episode, revision, waiting: null });
    this.say("", "");
  }

  save(segments) {
    this.waiting = segments;
    this.say("saving", "Saving…");
    this.running ??= this.run().finally(() => { this.running = null; });
  }

  // Whether all is saved, once what is under way has ended.
  async finish() {
    await this.running;
    if (this.waiting) this.save(this.waiting);
    await this.running;
    return !this.waiting;
  }

  async run() {
    while (this.waiting) {
      const segments = this.waiting;
      try {
        const kept = await put(`api/episodes/${this.episode}`, { base: this.revision, rows: segments.map(said) });
        this.revision = kept.revision;
        if (this.waiting === segments) {
          this.waiting = null;
          this.say("done", `Saved ${new Date().toLocaleTimeString("en-GB")}`);
          this.saved(kept.rows);
        }
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 409) await this.settle(error.body);
        else if (error.status === 0) {
          this.say("failed", "Not saved: the review service does not answer. Trying again…");
          await new Promise((resolve) => setTimeout(resolve, AGAIN));
        } else {
          this.say("failed", `Not saved: ${error.message}`);
          return;
        }
      }
    }
  }

  // Somebody else's rows against ours: the reviewer chooses.
  async settle({ rows, revision }) {
    const dialog = document.getElementById("conflict");
    const last = rows.reduce((one, other) => (other.reviewed_at > one.reviewed_at ? other : one));
    const when = new Date(last.reviewed_at).toLocaleTimeString("en-GB");
    document.getElementById("conflict-text").textContent =
      `${last.reviewer || "Another program"} saved episode ${this.episode}${last.reviewed_at ? ` at ${when}` : ""}, after ` +
      `this page read it: ${rows.length} segments there, ${this.waiting.length} here.`;
    const theirs = await new Promise((resolve) => {
      document.getElementById("take-theirs").onclick = () => resolve(true);
      document.getElementById("keep-mine").onclick = () => resolve(false);
      dialog.oncancel = (event) => event.preventDefault(); // one of the two has to be chosen
      dialog.showModal();
    });
    dialog.close();
    this.revision = revision;
    if (theirs) {
      this.waiting = null;
      this.say("done", "Theirs was taken");
      this.replaced(rows);
    }
  }

  // Shows what somebody else saved while nothing of ours waits.
  async refresh() {
    if (this.episode === undefined || this.waiting || this.running) return;
    const episode = this.episode;
    const told = await get(`api/episodes/${episode}`).catch(() => null); // said when the next change is saved
    if (!told || this.episode !== episode || this.waiting || this.running || told.revision === this.revision) return;
    this.revision = told.revision;
    this.say("done", "Changed by somebody else; shown as it is now");
    this.replaced(told.rows);
  }

  say(state, text) {
    this.shown.dataset.state = state;
    this.shown.textContent = text;
    this.shown.title = text;
  }
}
