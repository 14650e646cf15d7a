// The page: which episode and frame are shown, what was done and undone, and that all of it is saved.

import { ApiError, get } from "./api.js";
import { Editor } from "./editor.js";
import { Frames } from "./frames.js";
import { bindKeys } from "./keys.js";
import { List } from "./list.js";
import { Saving } from "./saving.js";
import * as Segments from "./segments.js";
import { Timeline } from "./timeline.js";

const LONGEST_STEP = 200; // ms that playing goes on by at once
const find = (id) => document.getElementById(id);
const review = await get("api/review");
const page = { episode: null, length: 0, segments: [], selected: -1, frame: 0, undone: [], done: [], playing: null };

find("dataset").textContent = review.name;
find("dataset").title = review.dataset;
find("reviewer").textContent = review.reviewer;

let shownFor;
function toast(message) {
  find("toast").textContent = message;
  find("toast").hidden = false;
  clearTimeout(shownFor);
  shownFor = setTimeout(() => { find("toast").hidden = true; }, 6000);
}

addEventListener("unhandledrejection", (event) => {
  if (!(event.reason instanceof ApiError)) return;
  event.preventDefault(); // told to the reviewer, who can try again
  toast(event.reason.message);
});

const frames = new Frames(find("views"), review);
const timeline = new Timeline(find("timeline"), {
  seek: (frame) => { stop(); seek(frame); },
  select: (place) => select(place, false),
  drag: (place, side, frame, alone) => {
    stop();
    page.before ??= page.segments;
    page.segments = Segments.move(page.before, place, side, frame, page.length, !alone);
    seek(Math.max(0, Math.min(page.length - 1, page.segments[place][side] - (side === "end" ? 1 : 0))));
    draw();
  },
  dropped: () => {
    const [before, after] = [page.before ?? page.segments, page.segments];
    page.before = null;
    page.segments = before;
    change(() => after, page.selected);
  },
});
const editor = new Editor(find("editor"), review, {
  rename: (patch) => change((segments) => Segments.rename(segments, page.selected, patch)),
  accept: acceptSegment, split, merge, remove,
});
const list = new List({
  pageSize: review.page_size,
  sample: review.sample,
  onOpen: open,
  onCounts: ({ all, accepted }) => {
    find("progress").max = all;
    find("progress").value = accepted;
    find("progress-text").textContent = `${accepted.toLocaleString("en")} of ${all.toLocaleString("en")} episodes accepted`;
  },
});
const saving = new Saving({
  shown: find("saved"),
  saved: (segments) => {
    page.segments = segments;
    draw();
    list.load();
  },
  replaced: (segments) => {
    Object.assign(page, { segments, done: [], undone: [], selected: Math.min(page.selected, segments.length - 1) });
    draw();
    list.load();
  },
});

// --- which episode -------------------------------------------------------------------------------------------------

async function open(episode) {
  if (episode === null || !(await saving.finish())) return;
  stop();
  const told = await get(`api/episodes/${episode}`);
  Object.assign(page, { episode, length: told.length, segments: told.rows, done: [], undone: [], before: null });
  history.replaceState(null, "", `#${episode}`);
  find("empty").hidden = true;
  find("main").hidden = false;
  find("trouble").hidden = true;
  find("toast").hidden = true;
  find("title").textContent = `Episode ${episode}`;
  document.title = `Episode ${episode} · review`;
  saving.open(episode, told.revision);
  frames.open(episode, told.length);
  timeline.open({ length: told.length, fps: review.fps });
  const first = Math.max(0, told.rows.findIndex((row) => row.review_state !== Segments.ACCEPTED));
  page.selected = first;
  draw();
  seek(told.rows[first].start);
  list.show(episode);
  try {
    const curves = await get(`api/episodes/${episode}/curves`);
    if (page.episode === episode) timeline.setCurves(curves);
  } catch (error) {
    if (page.episode !== episode) return;
    find("trouble").textContent = `The curves cannot be drawn: ${error.message}`;
    find("trouble").hidden = false;
  }
}

async function beside(step) {
  const next = await list.beside(page.episode, step);
  if (next === null) toast(step > 0 ? "This is the last episode of the list." : "This is the first episode of the list.");
  else await open(next);
}

// --- which frame ---------------------------------------------------------------------------------------------------

function seek(frame) {
  page.frame = Math.max(0, Math.min(page.length - 1, frame));
  timeline.setFrame(page.frame);
  const shown = frames.show(page.frame);
  find("clock").textContent =
    `frame ${page.frame} of ${page.length - 1} · ${(page.frame / review.fps).toFixed(2)} s`;
  return shown;
}

const step = (count) => {
  stop();
  seek(page.frame + count);
  const here = Segments.at(page.segments, page.frame);
  if (here !== page.selected) select(here, false);
};

function stop() {
  page.playing = null;
  find("play").textContent = "▶";
}

async function play(end = page.length) {
  if (page.playing) return stop();
  const playing = (page.playing = {});
  find("play").textContent = "❚❚";
  if (page.frame >= end - 1) seek(0);
  let place = page.frame;
  let before = performance.now();
  while (page.playing === playing) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    // frames that are late hold the clock up
    place += (Math.min(now - before, LONGEST_STEP) / 1000) * review.fps * Number(find("speed").value);
    before = now;
    const due = Math.floor(place);
    if (page.playing !== playing || due === page.frame) continue;
    if (due >= end) {
      seek(end - 1);
      stop();
      break;
    }
    await seek(due);
    const here = Segments.at(page.segments, page.frame);
    if (here >= 0 && here !== page.selected && end === page.length) select(here, false);
  }
}

function playSegment() {
  const segment = page.segments[page.selected];
  if (page.playing || !segment) return stop();
  seek(segment.start);
  return play(segment.end);
}

// --- what is done --------------------------------------------------------------------------------------------------

function select(place, move = true) {
  if (place < -1 || place >= page.segments.length) return;
  page.selected = place;
  if (move && place >= 0) {
    stop();
    seek(page.segments[place].start);
  }
  draw();
}

function change(operation, selected = page.selected) {
  stop();
  let segments;
  try {
    segments = operation(page.segments);
  } catch (error) {
    toast(error.message);
    return false;
  }
  if (segments !== page.segments) {
    page.done.push({ segments: page.segments, selected: page.selected });
    page.undone = [];
    page.segments = segments;
    saving.save(segments);
  }
  page.selected = Math.min(selected, segments.length - 1);
  draw();
  return true;
}

function back(from, to) {
  const last = from.pop();
  if (!last) return;
  to.push({ segments: page.segments, selected: page.selected });
  Object.assign(page, last);
  saving.save(page.segments);
  draw();
}
const undo = () => back(page.done, page.undone);
const redo = () => back(page.undone, page.done);

function split() {
  change((segments) => Segments.split(segments, page.selected, page.frame), page.selected + 1);
}
function merge() {
  change((segments) => Segments.merge(segments, page.selected));
}
function remove() {
  change((segments) => (page.selected < 0 ? segments : Segments.remove(segments, page.selected)), Math.max(0, page.selected - 1));
}
function insert() {
  const place = page.segments.filter((segment) => segment.end <= page.frame).length;
  change((segments) => Segments.insert(segments, page.frame, page.length), place);
}
function setEnd(side) {
  const frame = side === "start" ? page.frame : page.frame + 1;
  change((segments) => (page.selected < 0 ? segments : Segments.move(segments, page.selected, side, frame, page.length)));
}
function nudge(by) {
  const cut = Segments.nearestCut(page.segments, page.frame);
  const to = page.segments[cut.place][cut.side] + by;
  if (change((segments) => Segments.move(segments, cut.place, cut.side, to, page.length))) {
    seek(page.segments[cut.place][cut.side]);
  }
}

function lacks(places) {
  const place = places.find((each) => Segments.lacking(page.segments[each]));
  if (place === undefined) return false;
  select(place);
  const name = Segments.lacking(page.segments[place]);
  toast(`Segment ${place + 1} has no ${name.replace("_", " ")}: write it, then accept.`);
  if (name !== "task") editor.focus(name);
  else find("task").focus();
  return true;
}

function acceptSegment() {
  if (page.selected < 0 || lacks([page.selected])) return;
  const place = page.selected;
  change((segments) => Segments.accept(segments, [place]));
  if (place + 1 < page.segments.length) select(place + 1);
}

async function acceptAll() {
  const places = page.segments.map((_, place) => place);
  if (lacks(places)) return;
  if (!Segments.isAccepted(page.segments)) change((segments) => Segments.accept(segments, places));
  if (!(await saving.finish())) return;
  const next = await list.beside(page.episode, 1, true);
  if (next === null) toast("No episode is left to do after this one.");
  else await open(next);
}

const focus = (name) => page.selected >= 0 && editor.focus(name);
const zoom = (factor) => (factor ? timeline.zoom(factor) : timeline.window(0, page.length));
const selected = () => page.selected;

function draw() {
  timeline.setSegments(page.segments, page.selected);
  timeline.drawCurves();
  editor.show(page.segments, page.selected);
  if (document.activeElement !== find("task")) find("task").value = page.segments[0].task;
  find("undo").disabled = !page.done.length;
  find("redo").disabled = !page.undone.length;
  find("accept-all").classList.toggle("accepted", Segments.isAccepted(page.segments));
}

for (const [id, action] of Object.entries({
  play: () => play(), "play-segment": playSegment, undo, redo, "accept-all": acceptAll,
  "zoom-in": () => zoom(0.6), "zoom-out": () => zoom(1 / 0.6), help: () => find("keys").showModal(),
})) {
  find(id).addEventListener("click", (event) => {
    action();
    event.currentTarget.blur();
  });
}
find("task").addEventListener("change", () => change((segments) => Segments.renameTask(segments, find("task").value.trim())));
addEventListener("focus", () => saving.refresh());
bindKeys({
  beside, step, play, playSegment, select, split, merge, remove, insert, setEnd, nudge, undo, redo, focus, zoom,
  acceptSegment, acceptAll, selected, help: () => find("keys").showModal(), ready: () => page.episode !== null,
});

const asked = location.hash.slice(1);
await list.load({ around: asked || null });
const start = asked ? Number(asked) : ((await list.beside(null, 1, true)) ?? (await list.beside(null, 1)));
if (start === null || Number.isNaN(start)) find("empty").textContent = "There is no episode in this list.";
else await open(start);
