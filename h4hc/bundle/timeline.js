// The timeline: one row per queue, zoom and pan, hover and selection. `view` is shared with the memory maps.

const frameEnd = Math.max(data.summary.latency, 1);
const view = { start: 0, end: frameEnd, selected: null, hovered: null, critical: false, listeners: [] };
const critical = new Set(data.bottlenecks.path);
const chart = byId("chart");
const overview = byId("overview");
// Where the tasks of the frames before and behind this one are, in ticks from it.
const otherFrames = [];
for (let number = 1; number < Math.min(data.summary.frames_in_flight, 64); number += 1) {
  const shift = number * data.summary.initiation_interval;
  otherFrames.push(-shift, shift);
}
const ROW = 40;
const AXIS = 26;
let labelWidth = 110;

function setView(start, end) {
  const span = Math.min(frameEnd, Math.max(end - start, Math.min(frameEnd, 20)));
  view.start = Math.max(0, Math.min(start, frameEnd - span));
  view.end = view.start + span;
  redraw();
}

function zoom(factor, centre) {
  const at = centre === undefined ? (view.start + view.end) / 2 : centre;
  setView(at - (at - view.start) * factor, at + (view.end - at) * factor);
}

let frameRequested = false;
function redraw() {
  if (frameRequested) return;
  frameRequested = true;
  requestAnimationFrame(() => {
    frameRequested = false;
    drawChart();
    drawOverview();
    view.listeners.forEach((listener) => listener());
  });
}

function prepare(canvas, height) {
  const width = canvas.parentElement.clientWidth;
  const scale = window.devicePixelRatio || 1;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width];
}

const toX = (ticks, width) =>
  labelWidth + ((ticks - view.start) / (view.end - view.start)) * (width - labelWidth);
const toTicks = (x, width) =>
  view.start + ((x - labelWidth) / (width - labelWidth)) * (view.end - view.start);

function axisStep(span, room) {
  const rough = span / Math.max(1, room);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
}

function drawChart() {
  const [context, width] = prepare(chart, AXIS + ROW * resources.length + 6);
  labelWidth = width < 600 ? 76 : 110;
  context.font = "11px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
  context.textBaseline = "middle";
  drawAxis(context, width);
  context.textAlign = "left";
  context.save();
  context.beginPath();
  context.rect(labelWidth, 0, width - labelWidth, AXIS + ROW * resources.length + 6);
  context.clip();
  resources.forEach((name, row) => {
    for (const id of data.queues[name] || []) drawOthers(context, width, taskById.get(id), row);
    for (const id of data.queues[name] || []) drawTask(context, width, taskById.get(id), row);
  });
  drawDependencies(context, width);
  context.restore();
  drawLabels(context, width);
}

function drawAxis(context, width) {
  const step = axisStep(view.end - view.start, (width - labelWidth) / 100);
  context.textAlign = "center";
  const bottom = AXIS + ROW * resources.length;
  for (let at = Math.ceil(view.start / step) * step; at <= view.end; at += step) {
    const x = Math.round(toX(at, width)) + 0.5;
    context.strokeStyle = colours.line;
    context.beginPath();
    context.moveTo(x, AXIS - 6);
    context.lineTo(x, bottom);
    context.stroke();
    context.fillStyle = colours.muted;
    if (x > labelWidth + 20 && x < width - 26) context.fillText(moment(at, step), x, 10);
  }
}

function drawLabels(context, width) {
  resources.forEach((name, row) => {
    const y = AXIS + row * ROW;
    context.strokeStyle = colours.line;
    context.beginPath();
    context.moveTo(0, y - 0.5);
    context.lineTo(width, y - 0.5);
    context.stroke();
    context.fillStyle = colours.text;
    context.fillText(shorten(name, labelWidth < 100 ? 9 : 14), 10, y + ROW / 2);
  });
}

// The same task of the frames before and behind: what keeps a queue busy where this frame leaves it free.
function drawOthers(context, width, task, row) {
  context.fillStyle = colours.stripe;
  for (const shift of otherFrames) {
    const left = Math.max(toX(task.start + shift, width), labelWidth);
    const right = Math.min(toX(task.end + shift, width), width);
    if (right > left) context.fillRect(left, AXIS + row * ROW + 5, Math.max(0.5, right - left - 0.5), ROW - 10);
  }
}

function drawTask(context, width, task, row) {
  const left = toX(task.start, width);
  const right = Math.max(toX(task.end, width), left + 1);
  if (right < labelWidth || left > width) return;
  const top = AXIS + row * ROW + 5;
  const height = ROW - 10;
  const gap = right - left > 4 ? 1 : 0;
  const span = Math.max(1, task.end - task.start);
  const filled = Math.max(2, height * Math.min(1, task.work / span));
  const faded = view.critical && !critical.has(task.id) ? 0.18 : 1;
  context.fillStyle = colours[typeOf(task)];
  context.globalAlpha = 0.28 * faded;
  context.fillRect(left, top, right - left - gap, height);
  context.globalAlpha = faded;
  context.fillRect(left, top + height - filled, right - left - gap, filled);
  context.globalAlpha = 1;
  if (task.id === view.selected || task.id === view.hovered) {
    context.strokeStyle = colours.text;
    context.lineWidth = task.id === view.selected ? 2 : 1;
    context.strokeRect(left - 0.5, top - 0.5, right - left - gap + 1, height + 1);
    context.lineWidth = 1;
  }
  const room = Math.floor((Math.min(right, width) - Math.max(left, labelWidth) - 10) / 6.7);
  if (room >= 4) {
    context.fillStyle = filled > height / 2 ? "#fff" : colours.text;
    context.fillText(shorten(taskTitle(task), room), Math.max(left, labelWidth) + 5, top + height / 2);
  }
}

function drawDependencies(context, width) {
  const task = taskById.get(view.selected);
  if (!task) return;
  const consumers = data.tasks.filter((other) => other.waits.some((wait) => wait[0] === task.id));
  const arrows = [
    ...task.waits.map((wait) => [taskById.get(wait[0]), task, wait[4]]),
    ...consumers.map((other) => [task, other, other.waits.find((wait) => wait[0] === task.id)[4]]),
  ];
  for (const [from, to, reason] of arrows) {
    const overlapping = from.end > to.start;
    const x1 = toX(overlapping ? from.start : from.end, width);
    const x2 = toX(to.start, width);
    const y1 = AXIS + resources.indexOf(from.resource) * ROW + 0.78 * ROW;
    const y2 = AXIS + resources.indexOf(to.resource) * ROW + 0.78 * ROW;
    const bend = Math.max(16, Math.abs(x2 - x1) / 2);
    context.strokeStyle = reason === "data" ? colours.text : colours.bad;
    context.setLineDash(reason === "data" ? [] : [4, 3]);
    context.beginPath();
    context.moveTo(x1, y1);
    context.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = context.strokeStyle;
    context.beginPath();
    context.arc(x2, y2, 2.5, 0, 2 * Math.PI);
    context.fill();
  }
}

function drawOverview() {
  const [context, width] = prepare(overview, 30);
  const scale = (width - labelWidth) / frameEnd;
  const height = 24 / resources.length;
  resources.forEach((name, row) => {
    for (const id of data.queues[name] || []) {
      const task = taskById.get(id);
      context.fillStyle = colours[typeOf(task)];
      context.fillRect(labelWidth + task.start * scale, 3 + row * height,
        Math.max(0.6, (task.end - task.start) * scale), Math.max(1, height - 1));
    }
  });
  const left = labelWidth + view.start * scale;
  const right = labelWidth + view.end * scale;
  context.fillStyle = colours.panel;
  context.globalAlpha = 0.7;
  context.fillRect(labelWidth, 0, left - labelWidth, 30);
  context.fillRect(right, 0, width - right, 30);
  context.globalAlpha = 1;
  context.strokeStyle = colours.accent;
  context.strokeRect(left + 0.5, 0.5, Math.max(2, right - left - 1), 29);
}

function taskAt(x, y) {
  const row = Math.floor((y - AXIS) / ROW);
  const width = chart.clientWidth;
  if (row < 0 || row >= resources.length || x < labelWidth) return null;
  const slack = ((view.end - view.start) / (width - labelWidth)) * 2;
  const at = toTicks(x, width);
  const hits = (data.queues[resources[row]] || []).map((id) => taskById.get(id))
    .filter((task) => at >= task.start - slack && at <= task.end + slack);
  const distance = (task) => Math.abs((task.start + task.end) / 2 - at);
  return hits.sort((a, b) => distance(a) - distance(b))[0] || null;
}

const taskTitle = (task) => (task.kind === "weight_load"
  ? `weights of ${task.operator}` : task.operator || `copy of ${task.tensor}`);

function whyStarted(task) {
  const [cause, blocker, latency] = task.why || ["unknown", -1, 0];
  const other = taskById.get(blocker);
  const handoff = latency ? ` and ${duration(latency)} of hand-off` : "";
  if (cause === "first") return ["nothing held it back", null];
  if (cause === "queue") return [`${task.resource} was busy with`, other];
  if (cause === "reuse") return [`its memory was still in use${handoff} by`, other];
  if (cause === "order") return ["a memory's port or room was taken by", other];
  if (cause === "data") return [`it waited for data${handoff} from`, other];
  return ["the replay did not reach it", null];
}

function taskLines(task) {
  const [reason, other] = whyStarted(task);
  return [
    taskTitle(task),
    `${typeOf(task)} on ${task.resource}`,
    `${moment(task.start, 1)} + ${duration(task.end - task.start)}`,
    task.stall ? `${duration(task.work)} of work, ${duration(task.stall)} stalled` : "never stalled",
    `waits for ${task.waits.length} ${task.waits.length === 1 ? "task" : "tasks"}`,
    `Started then: ${reason}${other ? ` ${shorten(taskTitle(other), 40)}` : ""}`,
  ];
}

function select(id, reveal) {
  view.selected = id;
  const task = taskById.get(id);
  if (task && reveal && (task.end < view.start || task.start > view.end)) {
    const span = view.end - view.start;
    setView(task.start - span / 2, task.start + span / 2);
  }
  fillDetails(task);
  redraw();
}

function taskLink(task) {
  return h("button", { type: "button", class: "link", onclick: () => select(task.id, true) },
    shorten(taskTitle(task), 60));
}

function fillDetails(task) {
  if (!task) {
    byId("details").replaceChildren();
    return;
  }
  const operator = operatorByName.get(task.operator);
  const [reason, other] = whyStarted(task);
  const facts = [
    ["Start", moment(task.start, 1)],
    ["End", moment(task.end, 1)],
    ["Duration", duration(task.end - task.start)],
    ["Work", `${duration(task.work)} in ${task.tiles} ${task.tiles === 1 ? "tile" : "tiles"}`],
    ["Stalled", task.stall ? duration(task.stall) : "never"],
    ["Energy", picojoules(task.energy)],
  ];
  if (task.bytes) facts.push(["Moves", bytes(task.bytes)]);
  const stalledOn = taskById.get((task.why || [])[3]);
  byId("details").replaceChildren(
    h("div", { class: "details-title" },
      operator ? h("a", { href: `#${operator.anchor}` }, operator.name) : taskTitle(task),
      h("span", { class: "muted" }, ` ${typeOf(task)} on ${task.resource}, task ${task.id}`)),
    h("dl", { class: "facts" }, ...facts.map(fact)),
    h("p", {}, h("b", {}, "Started then because "), `${reason} `, other ? taskLink(other) : null, "."),
    stalledOn ? h("p", {}, h("b", {}, "Stalled mostly on "), taskLink(stalledOn), ".") : "",
    waitTable(task),
    h("p", { class: "muted" }, `Reads ${bufferList(task.reads)}; writes ${bufferList(task.writes)}.`));
}

function waitTable(task) {
  if (!task.waits.length) return h("p", { class: "muted" }, "Waits for no other task.");
  const rows = task.waits.map(([id, first, last, latency, reason]) => h("tr", {},
    h("td", {}, taskLink(taskById.get(id))),
    h("td", {}, reason),
    h("td", { class: "num" }, `${first} of ${taskById.get(id).tiles}`),
    h("td", { class: "num" }, `${last} of ${taskById.get(id).tiles}`),
    h("td", { class: "num" }, latency ? duration(latency) : "\u2013")));
  return h("div", { class: "scroll" }, h("table", { class: "small" },
    head([["Waits for", ""], ["For", ""], ["Tiles before its first tile", "num"], ["before its last", "num"],
      ["Hand-off", "num"]]),
    h("tbody", {}, ...rows)));
}

function bufferList(ids) {
  if (!ids.length) return "nothing";
  return ids.map((id) => {
    const buffer = bufferById.get(id);
    return `${shorten(bufferTitle(buffer), 40)} (${buffer.memory} +${buffer.offset}, ${bytes(buffer.bytes)})`;
  }).join(", ");
}

function stepSelection(direction) {
  const current = taskById.get(view.selected);
  const queue = current ? data.queues[current.resource] : data.queues[resources.find((r) => data.queues[r])];
  if (!queue || !queue.length) return;
  const index = current ? queue.indexOf(current.id) + direction : 0;
  select(queue[Math.max(0, Math.min(queue.length - 1, index))], true);
}

function changeQueue(direction) {
  const current = taskById.get(view.selected);
  if (!current) return stepSelection(0);
  const filled = resources.filter((name) => (data.queues[name] || []).length);
  const next = filled[filled.indexOf(current.resource) + direction];
  if (next) {
    const tasks = data.queues[next].map((id) => taskById.get(id));
    select((tasks.find((task) => task.end > current.start) || tasks[tasks.length - 1]).id, true);
  }
}
