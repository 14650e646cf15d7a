// The keys of the page. In a text field they are letters; there Enter keeps the text and Escape takes it back.

export function bindKeys(on) {
  const keys = {
    " ": () => on.play(),
    p: () => on.playSegment(),
    ArrowLeft: (event) => on.step(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => on.step(event.shiftKey ? 10 : 1),
    Home: () => on.step(-Infinity),
    End: () => on.step(Infinity),
    ArrowUp: () => on.select(Math.max(0, on.selected() - 1)),
    ArrowDown: () => on.select(on.selected() + 1),
    "+": () => on.zoom(0.6),
    "=": () => on.zoom(0.6),
    "-": () => on.zoom(1 / 0.6),
    0: () => on.zoom(0),
    n: () => on.beside(1),
    b: () => on.beside(-1),
    a: () => on.acceptSegment(),
    Enter: () => on.acceptAll(),
    r: () => on.focus("atomic_action"),
    t: () => on.focus("sub_task"),
    s: () => on.split(),
    m: () => on.merge(),
    i: () => on.setEnd("start"),
    o: () => on.setEnd("end"),
    ",": () => on.nudge(-1),
    ".": () => on.nudge(1),
    g: () => on.insert(),
    Delete: () => on.remove(),
    "?": () => on.help(),
  };
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || !on.ready()) return;
    const field = event.target.closest("input, select, textarea");
    if (field) {
      if (event.key === "Escape") {
        if (field.dataset.field) field.value = field.dataset.before ?? field.value;
        field.blur();
      } else if (event.key === "Enter") {
        field.blur();
      } else return;
      event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey) {
      if (event.key.toLowerCase() !== "z") return;
      event.preventDefault();
      if (event.shiftKey) on.redo();
      else on.undo();
      return;
    }
    if (event.altKey || (event.target.closest("button") && (event.key === "Enter" || event.key === " "))) return;
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  });
  addEventListener("focusin", (event) => {
    if (event.target.dataset?.field) event.target.dataset.before = event.target.value;
  });
}
