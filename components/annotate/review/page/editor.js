// The words of the selected segment, and what is recorded of it.

import { ACCEPTED } from "./segments.js";

const ARMS = ["left", "right", "both", "robot", ""];
const FIELDS = [
  ["atomic_action", "Atomic action"], ["arm", "Arm"], ["sub_task", "Sub-task"], ["verb", "Verb"], ["objects", "Objects"],
];

export class Editor {
  // on: {rename(patch), accept(), split(), merge(), remove()}
  constructor(container, { actions, fps }, on) {
    this.fps = fps;
    this.fields = {};
    this.head = document.createElement("div");
    this.head.className = "about";
    const grid = document.createElement("div");
    grid.className = "fields";
    const list = document.createElement("datalist");
    list.id = "actions";
    list.append(...actions.map((action) => Object.assign(document.createElement("option"), { value: action })));
    for (const [name, label] of FIELDS) {
      const box = document.createElement("label");
      box.className = name;
      const input = document.createElement(name === "arm" ? "select" : "input");
      if (name === "arm") {
        input.append(...ARMS.map((arm) => Object.assign(document.createElement("option"), { value: arm, textContent: arm || "none" })));
      } else {
        input.autocomplete = "off";
      }
      if (name === "atomic_action") input.setAttribute("list", "actions");
      input.dataset.field = name;
      input.addEventListener("change", () => on.rename({ [name]: input.value.trim() }));
      box.append(Object.assign(document.createElement("span"), { textContent: label, className: "muted" }), input);
      grid.append(box);
      this.fields[name] = input;
    }
    const buttons = document.createElement("div");
    buttons.className = "buttons";
    const button = (text, key, action, className = "") => {
      const made = Object.assign(document.createElement("button"), { className });
      made.append(`${text} `, Object.assign(document.createElement("kbd"), { textContent: key }));
      made.addEventListener("click", () => {
        action();
        made.blur();
      });
      buttons.append(made);
      return made;
    };
    this.accept = button("Accept segment", "A", on.accept);
    button("Split here", "S", on.split);
    button("Merge with next", "M", on.merge);
    button("Remove", "Del", on.remove);
    container.append(this.head, buttons, grid, list);
    this.grid = grid;
    this.buttons = buttons;
  }

  focus(name) {
    this.fields[name].focus();
    this.fields[name].select?.();
  }

  show(segments, place) {
    const segment = segments[place];
    this.grid.hidden = this.buttons.hidden = !segment;
    this.head.replaceChildren();
    const say = (text, className = "") =>
      this.head.append(Object.assign(document.createElement("span"), { textContent: text, className }));
    if (!segment) {
      say("No segment here. ", "muted");
      say("G makes one in the gap; ↑ and ↓ go to the others.", "muted");
      return;
    }
    say(`Segment ${place + 1} of ${segments.length}`, "strong");
    say(`frames ${segment.start} to ${segment.end - 1}`);
    say(`${((segment.end - segment.start) / this.fps).toFixed(2)} s`);
    say(`confidence ${segment.start_confidence.toFixed(2)} at its start, ${segment.end_confidence.toFixed(2)} at its end`, "muted");
    if (segment.source) say(`words: ${segment.source}`, "muted");
    if (segment.reviewed_at) {
      const when = new Date(segment.reviewed_at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
      say(`${segment.review_state === ACCEPTED ? "accepted" : "changed"} by ${segment.reviewer}, ${when}`, "muted");
    }
    const state = segment.review_state;
    if (state !== "unreviewed") say(state, `state ${state}`);
    if (segment.reason) say(segment.reason, "reason");
    for (const [name, input] of Object.entries(this.fields)) {
      if (document.activeElement !== input || input.dataset.place !== String(place)) input.value = segment[name];
      input.dataset.place = place;
    }
    this.accept.disabled = state === ACCEPTED;
  }
}
