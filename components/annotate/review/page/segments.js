// What can be done to the segments of an episode. Each function gives a new list; none changes what it was given.
// A segment covers the frames [start, end). A change of a segment takes back its acceptance.

export const UNREVIEWED = "unreviewed";
export const ACCEPTED = "accepted";

const changed = (segment, patch) => ({ ...segment, ...patch, review_state: UNREVIEWED, reason: "" });
const put = (segments, place, ...made) => [...segments.slice(0, place), ...made, ...segments.slice(place + 1)];

export const at = (segments, frame) => segments.findIndex((segment) => segment.start <= frame && frame < segment.end);

export function split(segments, place, frame) {
  const segment = segments[place];
  if (!segment || frame <= segment.start || frame >= segment.end) {
    throw new Error("There is nothing to split here: go to a frame inside of the segment, not its first.");
  }
  return put(segments, place, changed(segment, { end: frame }), changed(segment, { start: frame }));
}

export function merge(segments, place) {
  const next = segments[place + 1];
  if (place < 0 || !next) throw new Error("There is no segment after this one to merge with.");
  const merged = changed(segments[place], { end: next.end });
  return [...segments.slice(0, place), merged, ...segments.slice(place + 2)];
}

// Where an end may go: a segment keeps a frame at least, and so does the neighbour that shares the cut.
export function limits(segments, place, side, length, shared) {
  const segment = segments[place];
  const other = segments[side === "start" ? place - 1 : place + 1];
  const joined = shared && other && (side === "start" ? other.end === segment.start : other.start === segment.end);
  if (side === "start") return [joined ? other.start + 1 : other ? other.end : 0, segment.end - 1, joined];
  return [segment.start + 1, joined ? other.end - 1 : other ? other.start : length, joined];
}

export function move(segments, place, side, frame, length, shared = true) {
  const [low, high, joined] = limits(segments, place, side, length, shared);
  const to = Math.min(high, Math.max(low, Math.round(frame)));
  if (to === segments[place][side]) return segments;
  let moved = put(segments, place, changed(segments[place], { [side]: to }));
  if (joined) {
    const beside = side === "start" ? place - 1 : place + 1;
    moved = put(moved, beside, changed(moved[beside], { [side === "start" ? "end" : "start"]: to }));
  }
  return moved;
}

// The cut nearest to a frame, as [segment, side]; a shared cut is the start of the later one.
export function nearestCut(segments, frame) {
  let best = null;
  segments.forEach((segment, place) => {
    for (const side of ["end", "start"]) {
      const distance = Math.abs(segment[side] - frame);
      if (!best || distance <= best.distance) best = { place, side, distance };
    }
  });
  return best;
}

export function rename(segments, place, patch) {
  const segment = segments[place];
  // a template's verb is the atomic action itself, and stays so
  const verb = "atomic_action" in patch && segment.verb === segment.atomic_action ? { verb: patch.atomic_action } : {};
  const full = { ...verb, ...patch };
  if (Object.entries(full).every(([name, value]) => segment[name] === value)) return segments;
  return put(segments, place, changed(segment, full));
}

export const renameTask = (segments, task) =>
  segments.every((segment) => segment.task === task) ? segments : segments.map((segment) => changed(segment, { task }));

export function remove(segments, place) {
  if (segments.length === 1) throw new Error("An episode keeps one segment at least: rename it to 'wait' where nothing is done.");
  return [...segments.slice(0, place), ...segments.slice(place + 1)];
}

export function insert(segments, frame, length) {
  if (at(segments, frame) >= 0) throw new Error("There is a segment at this frame already: split it, or go to a gap.");
  const place = segments.filter((segment) => segment.end <= frame).length;
  const start = place ? segments[place - 1].end : 0;
  const end = place < segments.length ? segments[place].start : length;
  const made = {
    start, end, atomic_action: "wait", arm: "", task: segments[0]?.task ?? "", sub_task: "wait", verb: "wait",
    objects: "", review_state: UNREVIEWED, source: "", confidence: 1, start_confidence: 1, end_confidence: 1, reason: "",
  };
  return [...segments.slice(0, place), made, ...segments.slice(place)];
}

export const lacking = (segment) =>
  ["atomic_action", "task", "sub_task"].find((name) => !segment[name].trim());

export function accept(segments, places) {
  return segments.map((segment, place) =>
    places.includes(place) && segment.review_state !== ACCEPTED ? { ...segment, review_state: ACCEPTED } : segment);
}

export const isAccepted = (segments) => segments.every((segment) => segment.review_state === ACCEPTED);
