// The list of episodes: filtered and ordered by the service, a page at a time.

import { get } from "./api.js";

const WORDS_PAUSE = 200; // ms of no typing before the list is asked for

export class List {
  // onOpen(episode), onCounts({all, accepted})
  constructor({ pageSize, sample, onOpen, onCounts }) {
    const find = (id) => document.getElementById(id);
    Object.assign(this, { pageSize, onOpen, onCounts, offset: 0, state: "all", words: "", current: null });
    this.order = sample === null ? "number" : "sample";
    this.box = find("episodes");
    this.text = find("page-text");
    this.back = find("page-back");
    this.on = find("page-on");
    const order = find("order");
    order.querySelector("[value=sample]").hidden = sample === null;
    order.value = this.order;
    order.addEventListener("change", () => this.choose({ order: order.value }));
    for (const button of find("states").children) {
      button.addEventListener("click", () => this.choose({ state: button.dataset.state }));
    }
    const words = find("words");
    words.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.choose({ words: words.value }), WORDS_PAUSE);
    });
    this.back.addEventListener("click", () => this.load({ offset: Math.max(0, this.offset - pageSize) }));
    this.on.addEventListener("click", () => this.load({ offset: this.offset + pageSize }));
    this.box.addEventListener("click", (event) => {
      const row = event.target.closest("[data-episode]");
      if (row) this.onOpen(Number(row.dataset.episode));
    });
  }

  get filter() {
    return { order: this.order, state: this.state, words: this.words };
  }

  choose(change) {
    Object.assign(this, change);
    return this.load({ around: this.current, offset: 0 });
  }

  async load({ around = null, offset = this.offset } = {}) {
    const asked = (this.asked = {});
    const page = await get("api/episodes", { ...this.filter, offset, around });
    if (this.asked !== asked) return; // a later question is on its way
    this.offset = page.offset;
    this.page = page;
    this.onCounts(page);
    this.draw();
  }

  // The next episode in the list's order (step -1: the one before); with `open`, that is still to do.
  async beside(episode, step, open = false) {
    const filter = open ? { ...this.filter, state: "open" } : this.filter;
    return (await get("api/next", { ...filter, start: episode, step })).episode;
  }

  async show(episode) {
    this.current = episode;
    const listed = this.page?.episodes.some((row) => row.episode === episode);
    if (listed) this.draw();
    else await this.load({ around: episode });
  }

  draw() {
    const { total, episodes } = this.page;
    for (const button of document.querySelectorAll("#states button")) {
      button.setAttribute("aria-checked", String(button.dataset.state === this.state));
    }
    this.text.textContent = total
      ? `${(this.offset + 1).toLocaleString("en")} to ${(this.offset + episodes.length).toLocaleString("en")} of ${total.toLocaleString("en")}`
      : "none";
    this.back.disabled = this.offset === 0;
    this.on.disabled = this.offset + episodes.length >= total;
    this.box.replaceChildren(...episodes.map((row) => this.row(row)));
    this.box.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  }

  row(row) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.dataset.episode = row.episode;
    button.tabIndex = -1;
    button.setAttribute("aria-current", String(row.episode === this.current));
    const whole = row.accepted === row.segments;
    const mark = document.createElement("span");
    mark.className = `mark ${row.failed ? "failed" : whole ? "accepted" : row.accepted ? "begun" : ""}`;
    mark.textContent = row.failed ? "!" : whole ? "✓" : "";
    const number = document.createElement("b");
    number.textContent = row.episode;
    const task = document.createElement("span");
    task.className = "words";
    task.textContent = row.task;
    const facts = document.createElement("span");
    facts.className = "facts";
    facts.textContent = whole ? row.reviewer : row.confidence.toFixed(2);
    button.title = `${row.task}\n${row.accepted} of ${row.segments} segments accepted; least confidence ${row.confidence}`;
    button.append(mark, number, task, facts);
    item.append(button);
    return item;
  }
}
