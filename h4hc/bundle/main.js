// Pointer, keyboard and hash handling, and the first drawing.

const pointers = new Map();
let dragged = false;
let pinch = null;

function pointerTicks(event) {
  return toTicks(event.clientX - chart.getBoundingClientRect().left, chart.clientWidth);
}

function pinchState() {
  const [a, b] = [...pointers.values()];
  return { distance: Math.max(10, Math.abs(a.clientX - b.clientX)), middle: (pointerTicks(a) + pointerTicks(b)) / 2 };
}

chart.addEventListener("pointerdown", (event) => {
  chart.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  dragged = false;
  pinch = pointers.size === 2 ? pinchState() : null;
});

chart.addEventListener("pointermove", (event) => {
  const last = pointers.get(event.pointerId);
  if (!last) return hover(event);
  if (pointers.size === 2) {
    pointers.set(event.pointerId, event);
    const now = pinchState();
    zoom(pinch.distance / now.distance, pinch.middle);
    pinch.distance = now.distance;
    dragged = true;
    return undefined;
  }
  if (!dragged && Math.abs(event.clientX - last.clientX) < 4) return undefined;
  dragged = true;
  hideTooltip();
  const shift = pointerTicks(last) - pointerTicks(event);
  pointers.set(event.pointerId, event);
  setView(view.start + shift, view.end + shift);
  return undefined;
});

function release(event) {
  pointers.delete(event.pointerId);
  pinch = null;
}

chart.addEventListener("pointerup", (event) => {
  const box = chart.getBoundingClientRect();
  if (!dragged && pointers.size === 1) {
    const task = taskAt(event.clientX - box.left, event.clientY - box.top);
    select(task ? task.id : null, false);
  }
  release(event);
});
chart.addEventListener("pointercancel", release);
chart.addEventListener("pointerleave", () => {
  hideTooltip();
  view.hovered = null;
  redraw();
});

function hover(event) {
  const box = chart.getBoundingClientRect();
  const task = taskAt(event.clientX - box.left, event.clientY - box.top);
  chart.style.cursor = task ? "pointer" : "grab";
  if (task) showTooltip(taskLines(task), event.clientX, event.clientY);
  else hideTooltip();
  if (view.hovered !== (task ? task.id : null)) {
    view.hovered = task ? task.id : null;
    redraw();
  }
}

chart.addEventListener("wheel", (event) => {
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    zoom(Math.exp(event.deltaY / 300), pointerTicks(event));
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    event.preventDefault();
    const shift = (event.deltaX / (chart.clientWidth - labelWidth)) * (view.end - view.start);
    setView(view.start + shift, view.end + shift);
  }
}, { passive: false });

chart.addEventListener("dblclick", (event) => zoom(0.4, pointerTicks(event)));

const keys = {
  ArrowRight: () => stepSelection(1),
  ArrowLeft: () => stepSelection(-1),
  ArrowDown: () => changeQueue(1),
  ArrowUp: () => changeQueue(-1),
  "+": () => zoom(0.6),
  "=": () => zoom(0.6),
  "-": () => zoom(1 / 0.6),
  0: () => setView(0, frameEnd),
  c: () => toggleCritical(),
  Escape: () => select(null, false),
};

chart.addEventListener("keydown", (event) => {
  const action = keys[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
});

function moveOverview(event) {
  if (!event.buttons) return;
  const box = overview.getBoundingClientRect();
  const at = ((event.clientX - box.left - labelWidth) / (box.width - labelWidth)) * frameEnd;
  const half = (view.end - view.start) / 2;
  setView(at - half, at + half);
}
overview.addEventListener("pointerdown", moveOverview);
overview.addEventListener("pointermove", moveOverview);

function toggleCritical() {
  view.critical = !view.critical;
  byId("critical").setAttribute("aria-pressed", String(view.critical));
  redraw();
}

byId("critical").addEventListener("click", toggleCritical);
byId("zoom-in").addEventListener("click", () => zoom(0.5));
byId("zoom-out").addEventListener("click", () => zoom(2));
byId("zoom-fit").addEventListener("click", () => setView(0, frameEnd));

function followHash() {
  const operator = data.operators.find((o) => `#${o.anchor}` === decodeURIComponent(location.hash));
  if (!operator) return;
  for (const id of ["filter-text", "filter-device", "filter-kind"]) byId(id).value = "";
  table.open.add(operator.name);
  fillOperators();
  const row = byId(operator.anchor);
  row.classList.add("target");
  row.scrollIntoView({ block: "center" });
}

window.addEventListener("hashchange", followHash);
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColours();
  redraw();
});

readColours();
fillSummary();
fillLegend();
fillMemory();
prepareOperators();
fillOperators();
fillTransfers();
fillMeasured();
fillTarget();
redraw();
followHash();
