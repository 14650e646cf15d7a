// One timeline: the segments as blocks, the action curves below them, and the frame that the views show.

const SHOWN_SERIES = 7; // as many as there are colours
const LOW_SERIES = 2; // a panel of so few is half as high
const LEAST_FRAMES = 8; // closest zoom

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

// The same colour for the same atomic action in every episode.
export function hue(action) {
  let number = 7;
  for (const letter of action) number = (number * 31 + letter.charCodeAt(0)) % 3600;
  return (number * 137) % 360;
}

export class Timeline {
  // on: {seek(frame), select(place), drag(place, side, frame, alone), dropped()}
  constructor(container, on) {
    this.on = on;
    this.container = container;
    this.ruler = element("div", "ruler");
    this.track = element("div", "track");
    this.panels = element("div", "panels");
    this.head = element("div", "head");
    const lane = element("div", "lane");
    lane.append(this.ruler, this.track, this.panels, this.head);
    this.lane = lane;
    this.gutter = element("div", "gutter");
    container.append(this.gutter, lane);
    lane.addEventListener("pointerdown", (event) => this.press(event));
    lane.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 0.7 : 1 / 0.7, this.frameAt(event.clientX));
    }, { passive: false });
    new ResizeObserver(() => this.draw()).observe(lane);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  open({ length, fps }) {
    Object.assign(this, { length, fps, from: 0, to: length, frame: 0, segments: [], selected: -1, curves: [] });
    this.panels.replaceChildren();
    this.gutter.replaceChildren(element("div", "ruler"), element("div", "track label", "segments"));
  }

  setCurves(curves) {
    this.curves = curves.map((panel) => {
      const values = panel.series.flatMap((series) => series.values);
      let low = Infinity;
      let high = -Infinity;
      for (const value of values) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
      const margin = Math.max((high - low) * 0.08, 1e-3);
      const height = panel.series.length <= LOW_SERIES ? "low" : "";
      const canvas = element("canvas", `curve ${height}`);
      canvas.setAttribute("aria-label", `curves of ${panel.name}`);
      this.panels.append(canvas);
      const label = element("div", `label ${height}`);
      label.append(element("b", "", panel.unit ? `${panel.name}, ${panel.unit}` : panel.name));
      const prefix = commonPrefix(panel.series.map((series) => series.name));
      const shown = panel.series.slice(0, SHOWN_SERIES).map((series, place) => {
        const line = element("div", `series s${place + 1}`);
        const value = element("i");
        line.title = series.name;
        line.append(element("span", "", series.name.slice(prefix).replaceAll("_", " ")), value);
        label.append(line);
        return { ...series, value };
      });
      this.gutter.append(label);
      return { ...panel, low: low - margin, high: high + margin, canvas, shown };
    });
    this.draw();
  }

  setSegments(segments, selected) {
    this.segments = segments;
    this.selected = selected;
    this.drawSegments();
  }

  setFrame(frame) {
    this.frame = frame;
    if (frame < this.from || frame >= this.to) {
      const half = (this.to - this.from) / 2;
      this.window(frame - half, frame + half);
      return;
    }
    this.drawHead();
  }

  zoom(factor, around = this.frame) {
    const share = (around - this.from) / (this.to - this.from);
    const width = Math.min(this.length, Math.max(LEAST_FRAMES, (this.to - this.from) * factor));
    this.window(around - share * width, around + (1 - share) * width);
  }

  window(from, to) {
    const width = Math.min(this.length, to - from);
    this.from = Math.max(0, Math.min(this.length - width, from));
    this.to = this.from + width;
    this.draw();
  }

  x(frame) {
    return ((frame - this.from) / (this.to - this.from)) * this.lane.clientWidth;
  }

  // The frame boundary nearest to a place on the screen is round(); the frame under it floor().
  frameAt(clientX) {
    const box = this.lane.getBoundingClientRect();
    return this.from + ((clientX - box.left) / box.width) * (this.to - this.from);
  }

  press(event) {
    if (event.button !== 0 || !this.length) return;
    const handle = event.target.closest("[data-side]");
    const block = event.target.closest("[data-place]");
    event.preventDefault();
    document.activeElement?.blur();
    this.lane.setPointerCapture(event.pointerId);
    const place = block ? Number(block.dataset.place) : -1;
    const under = (moved) => Math.max(0, Math.min(this.length - 1, Math.floor(this.frameAt(moved.clientX))));
    if (block) this.on.select(place);
    if (!handle) this.on.seek(under(event));
    const follow = (moved) => {
      if (handle) this.on.drag(place, handle.dataset.side, Math.round(this.frameAt(moved.clientX)), moved.altKey);
      else this.on.seek(under(moved));
    };
    const drop = () => {
      this.lane.removeEventListener("pointermove", follow);
      if (handle) this.on.dropped();
    };
    this.lane.addEventListener("pointermove", follow);
    this.lane.addEventListener("lostpointercapture", drop, { once: true });
  }

  draw() {
    if (!this.length || !this.lane.clientWidth) return;
    this.drawRuler();
    this.drawSegments();
    this.drawCurves();
    this.drawHead();
  }

  drawRuler() {
    const seconds = (this.to - this.from) / this.fps;
    const room = this.lane.clientWidth / 80; // a label every 80 pixels at the most
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find((each) => seconds / each <= room) ?? 1200;
    const marks = [];
    for (let tick = Math.ceil(this.from / this.fps / step - 1e-9); tick * step * this.fps < this.to; tick += 1) {
      const mark = element("span", "tick", `${Number((tick * step).toFixed(1))} s`);
      mark.style.left = `${this.x(tick * step * this.fps)}px`;
      marks.push(mark);
    }
    this.ruler.replaceChildren(...marks);
  }

  drawSegments() {
    const blocks = this.segments.map((segment, place) => {
      const block = element("div", `segment ${segment.review_state}`);
      block.dataset.place = place;
      block.dataset.start = segment.start;
      block.dataset.end = segment.end;
      block.style.left = `${this.x(segment.start)}px`;
      block.style.width = `${Math.max(3, this.x(segment.end) - this.x(segment.start) - 1)}px`;
      block.style.setProperty("--hue", hue(segment.atomic_action));
      block.style.setProperty("--inset", `${Math.max(0, -this.x(segment.start))}px`); // names stay in sight when zoomed
      block.classList.toggle("selected", place === this.selected);
      block.title = `${segment.atomic_action}: ${segment.sub_task}\nframes ${segment.start} to ${segment.end - 1}`;
      const name = element("span", "name", segment.atomic_action || "(no name)");
      const arm = element("span", "arm", segment.arm);
      block.append(name, arm);
      for (const side of ["start", "end"]) {
        const handle = element("span", `handle ${side}`);
        handle.dataset.side = side;
        handle.classList.toggle("doubtful", segment[`${side}_confidence`] < 0.5);
        block.append(handle);
      }
      return block;
    });
    this.track.replaceChildren(...blocks);
  }

  drawCurves() {
    const style = getComputedStyle(this.container);
    const colours = Array.from({ length: SHOWN_SERIES }, (_, place) => style.getPropertyValue(`--series-${place + 1}`));
    for (const panel of this.curves) {
      const { canvas, low, high } = panel;
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      canvas.width = width * devicePixelRatio;
      canvas.height = height * devicePixelRatio;
      const pen = canvas.getContext("2d");
      pen.scale(devicePixelRatio, devicePixelRatio);
      pen.strokeStyle = style.getPropertyValue("--line");
      pen.lineWidth = 1;
      for (const segment of this.segments) {
        for (const cut of [segment.start, segment.end]) {
          const x = Math.round(this.x(cut)) - 0.5;
          pen.beginPath();
          pen.moveTo(x, 0);
          pen.lineTo(x, height);
          pen.stroke();
        }
      }
      pen.lineWidth = 1.6;
      pen.lineJoin = "round";
      const first = Math.max(0, Math.floor(this.from) - 1);
      const last = Math.min(this.length - 1, Math.ceil(this.to));
      panel.series.forEach((series, place) => {
        pen.strokeStyle = colours[place % SHOWN_SERIES];
        pen.beginPath();
        for (let frame = first; frame <= last; frame += 1) {
          const y = height - ((series.values[frame] - low) / (high - low)) * height;
          if (frame === first) pen.moveTo(this.x(frame + 0.5), y);
          else pen.lineTo(this.x(frame + 0.5), y);
        }
        pen.stroke();
      });
    }
  }

  drawHead() {
    this.head.style.left = `${this.x(this.frame)}px`;
    this.head.style.width = `${Math.max(1, this.x(this.frame + 1) - this.x(this.frame))}px`;
    for (const panel of this.curves) {
      for (const series of panel.shown) series.value.textContent = (Math.round(series.values[this.frame] * 100) / 100 + 0).toFixed(2);
    }
  }
}

// How many characters the names share at their beginning, up to an underscore.
function commonPrefix(names) {
  if (names.length < 2) return 0;
  let length = 0;
  while (length < names[0].length && names.every((name) => name[length] === names[0][length])) length += 1;
  return names[0].lastIndexOf("_", length - 1) + 1;
}
