// The verdict, the figures, the comparison with single accelerators and the devices' shares.

function fillSummary() {
  const s = data.summary;
  byId("version").textContent = data.producer.version;
  byId("model-name").textContent = data.model.name;
  byId("target-name").textContent = data.target.name;
  byId("verdict").replaceChildren(...verdict(s));
  const figures = cards(s);
  byId("cards").style.setProperty("--across", Math.ceil(figures.length / 2));  // two rows of about equal length
  byId("cards").replaceChildren(...figures);
  byId("compare").replaceChildren(...comparison(s));
  byId("shares").replaceChildren(...shares(s));
}

const alone = (baseline) => `${baseline.name}\u00a0alone`;

// How many frames a second an accelerator makes alone.
const ownRate = (baseline) => 1 / (baseline.initiation_interval_seconds || baseline.latency_seconds);

// Several frames in flight are about frames a second, one frame about its latency.
function verdict(s) {
  const steady = s.frames_in_flight > 1;
  const parts = steady
    ? [h("strong", {}, `${count(s.frames_per_second)} frames/s`), `, each done ${seconds(s.latency_seconds)} after it began`]
    : [h("strong", {}, seconds(s.latency_seconds)), " per frame"];
  s.baselines.forEach((baseline, index) => {
    parts.push(index === 0 ? (steady ? "; " : ", ") : index === s.baselines.length - 1 ? " and " : ", ");
    const gain = !(s.latency_seconds > 0) ? 1
      : steady ? s.frames_per_second / ownRate(baseline) : baseline.latency_seconds / s.latency_seconds;
    const [more, less] = steady ? ["the rate of", "less than"] : ["faster than", "slower than"];
    if (gain.toFixed(2) === "1.00") parts.push(`as fast as ${alone(baseline)}`);
    else if (gain > 1) parts.push(h("b", {}, ratio(gain)), ` ${more} ${alone(baseline)}`);
    else parts.push(h("b", { class: "bad" }, ratio(1 / gain)), ` ${less} ${alone(baseline)}`);
  });
  parts.push(".");
  const budget = data.options.budget_seconds;
  if (budget !== null) {
    const gap = Math.abs(budget - s.latency_seconds);
    const text = s.budget_met
      ? `Budget of ${seconds(budget)} met, ${seconds(gap)} (${percent(gap / budget)}) to spare`
      : `Budget of ${seconds(budget)} missed by ${seconds(gap)} (${percent(gap / budget)})`;
    parts.push(" ", h("span", { class: s.budget_met ? "badge good" : "badge bad" }, text));
  }
  return parts;
}

function cards(s) {
  const fps = s.frames_per_second ? `${count(s.frames_per_second)}` : "\u2013";
  const tightest = data.memories.reduce(
    (worst, m) => (share(m) > share(worst) ? m : worst), data.memories[0]);
  const entries = [
    ["Latency", seconds(s.latency_seconds), `optimised for ${data.options.objective}`],
    ["Frames per second", fps, `one frame every ${duration(s.initiation_interval)}`],
    ["Energy per frame", joules(s.energy_joules),
      `${picojoules(s.dynamic_energy)} dynamic, ${picojoules(s.static_energy)} static`],
    ["Work", `${count(s.macs)} MAC`,
      s.frames_per_second ? `${count(s.macs * s.frames_per_second)} MAC/s sustained` : ""],
    ["Transfers", String(s.transfers), `${bytes(s.transferred_bytes)} between memories`],
  ];
  if (data.prefetch) {
    const number = data.prefetch.operators.length;
    const saved = fetchingSaves(s).filter(([gain]) => Math.abs(gain) >= LEAST_GAIN)
      .map(([gain, what]) => `${percent(Math.abs(gain))} ${gain > 0 ? "less" : "more"} ${what}`);
    entries.push(["Weights fetched ahead", bytes(data.prefetch.bytes),
      `of ${number} operator${number === 1 ? "" : "s"}${saved.length ? `; ${saved.join(", ")} than without` : ""}`]);
  }
  if (tightest) {
    entries.push([`Fullest memory: ${tightest.name}`, percent(share(tightest)),
      `${bytes(tightest.peak + tightest.weights)} of ${bytes(tightest.capacity)}`]);
  }
  return entries.map(([label, value, note]) => h("div", { class: "card" },
    h("div", { class: "label" }, label), h("div", { class: "value" }, value),
    h("div", { class: "note" }, note)));
}

const LEAST_GAIN = 0.0005;  // less reads 0.0 %

// Shares that fetching weights ahead saves, and of what.
function fetchingSaves(s) {
  const steady = s.frames_in_flight > 1 && data.options.interval_seconds === null;
  return [
    steady ? [1 - (s.initiation_interval * tick) / data.prefetch.initiation_interval_seconds, "time between frames"]
      : [1 - s.latency_seconds / data.prefetch.latency_seconds, "latency"],
    [1 - s.energy_joules / data.prefetch.energy_joules, "energy"],
  ];
}

const share = (memory) => (memory.capacity ? (memory.peak + memory.weights) / memory.capacity : 0);

function comparison(s) {
  const rows = [
    { name: data.target.name, latency: s.latency_seconds, rate: s.frames_per_second, energy: s.energy_joules, own: true },
    ...s.baselines.map((b) => (
      { name: alone(b), latency: b.latency_seconds, rate: b.latency_seconds ? ownRate(b) : 0, energy: b.energy_joules })),
  ];
  const most = (key) => Math.max(...rows.map((row) => row[key]), Number.MIN_VALUE);
  const longest = most("latency");
  const several = s.frames_in_flight > 1;  // then rates are what is compared
  const faster = (row) => (several && !row.own && row.rate ? `${ratio(s.frames_per_second / row.rate)} ` : "");
  const dearest = most("energy");
  const body = rows.map((row) => h("tr", { class: row.own ? "own" : null },
    h("th", { scope: "row" }, row.name),
    barCell(row.latency / longest, seconds(row.latency), row.own || several ? "" : versus(row.latency, s.latency_seconds)),
    h("td", { class: "num" }, h("span", { class: "muted" }, faster(row)), row.rate ? count(row.rate) : "\u2013"),
    barCell(row.energy / dearest, joules(row.energy), row.own ? "" : versus(row.energy, s.energy_joules))));
  return [
    h("h3", {}, s.baselines.length ? "Against one accelerator" : "Result"),
    h("div", { class: "scroll" }, h("table", { class: "compare" },
      head([["System", ""], ["Latency", ""], ["Frames/s", "num"], ["Energy", ""]]),
      h("tbody", {}, ...body))),
    ...framesInFlight(s),
    ...mostExpensive(s),
  ];
}

// What each number of frames in flight gives, and below which intervals none comes.
function framesInFlight(s) {
  if (!s.front.length) return [];
  const row = (name, interval, latency, note) => h("tr", {}, h("th", { scope: "row" }, name),
    h("td", { class: "num" }, duration(interval)), h("td", { class: "num" }, count(1 / (interval * tick))),
    h("td", { class: "num" }, latency), h("td", { class: "muted" }, note));
  const chosen = (point) => point.interval === s.initiation_interval && point.latency === s.latency;
  const note = (point) => [
    ...(s.interval_bound ? [ratio(point.interval / s.interval_bound)] : []), ...(chosen(point) ? ["chosen"] : []),
  ].join(", ");
  const body = distinctPoints(s.front, chosen).map((point) => row(
    `${point.frames} in flight`, point.interval, duration(point.latency), note(point)));
  body.push(row("Least by busiest resource", s.interval_bound, "", ""));
  if (data.recurrence_bound) body.push(row("Least by longest path", data.recurrence_bound, "", ""));
  return [
    h("h3", { class: "next" }, "Frames in flight"),
    h("div", { class: "scroll" }, h("table", { class: "compare" },
      head([["", ""], ["Interval", "num"], ["Frames/s", "num"], ["Latency", "num"], ["Above bound", ""]]),
      h("tbody", {}, ...body))),
  ];
}

// One point of those that read alike: the chosen one, else the first.
function distinctPoints(points, chosen) {
  const kept = new Map();
  for (const point of points) {
    const key = `${duration(point.interval)} ${duration(point.latency)}`;
    if (!kept.has(key) || chosen(point)) kept.set(key, point);
  }
  return [...kept.values()];
}

// The interval, unless it is that of a camera: then it says nothing about the schedule.
const ownInterval = (s) => (data.options.interval_seconds === null ? s.initiation_interval : null);

// kind of a claim -> [what it bounds, how it is shown, the figure of the schedule that it bounds]
const CLAIMS = {
  "latency": ["Latency", duration, (s) => s.latency],
  "critical-path": ["Longest path of least times", duration, (s) => s.latency],
  "initiation-interval": ["Work of the busiest device or channel", duration, ownInterval],
  "interval-in-flight": ["Interval with so many frames in flight", duration, ownInterval],
  "operator-latency": ["Latency with whole operators", duration, () => null],
  "sequential-latency": ["Latency without any overlap", duration, () => null],
  "sequential-edp": ["Energy times delay without overlap", (value) => `${count(value * 1e-15)}J s`, () => null],
  "dynamic-energy": ["Dynamic energy", picojoules, (s) => s.dynamic_energy],
};

function proved(s) {
  if (!data.claims || !data.claims.length) return [];
  const body = data.claims.map((claim) => {
    const [what, show, figure] = CLAIMS[claim.kind] || [claim.kind, count, () => null];
    const value = figure(s);
    const gap = value !== null && claim.value > 0 ? `schedule: ${ratio(value / claim.value)}` : "";
    return h("tr", {}, h("th", { scope: "row", title: claim.method }, what),
      h("td", {}, claim.status === "optimal" ? "the least possible" : "not less than"),
      h("td", { class: "num" }, show(claim.value)), h("td", { class: "num muted" }, gap));
  });
  return [
    h("h3", { class: "next" }, "What is proved"),
    h("div", { class: "scroll" }, h("table", { class: "compare" }, h("tbody", {}, ...body))),
  ];
}

function mostExpensive(s) {
  const top = [...data.operators].sort((a, b) => b.work - a.work || a.index - b.index).slice(0, 5);
  if (!top.length) return [];
  const body = top.map((operator) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: `#${operator.anchor}`, title: operator.name },
      shorten(operator.name, 30))),
    h("td", {}, operator.device),
    barCell(operator.work / Math.max(1, top[0].work), duration(operator.work),
      s.latency ? `${percent(operator.work / s.latency)} of the frame` : ""),
    h("td", { class: "num" }, picojoules(operator.energy))));
  return [
    h("h3", { class: "next" }, "Most expensive operators"),
    h("div", { class: "scroll" }, h("table", { class: "compare" }, h("tbody", {}, ...body))),
  ];
}

function versus(value, own) {
  return own > 0 ? ratio(value / own) : "";
}

function barCell(share_, label, note) {
  return h("td", { class: "bar-cell" },
    h("div", { class: "bar-label" }, h("span", {}, label), h("span", { class: "muted" }, note)),
    h("div", { class: "bar" }, h("div", { style: { width: `${(100 * share_).toFixed(2)}%` } })));
}

// The [name, ticks] of a record, the longest first.
const ranked = (record) => Object.entries(record).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));

// What a resource waits for, the longest first, as shares of the interval.
function causes(name, total) {
  return ranked(data.bottlenecks.idle[name] || {}).filter(([, ticks]) => ticks / total >= 0.005)
    .map(([cause, ticks]) => `${cause} ${percent(ticks / total)}`.replaceAll(" ", "\u00a0"));
}

// The critical path by resource, and what overlap gains.
function whereTimeGoes(s) {
  const found = data.bottlenecks;
  if (!found.path.length) return [];
  const several = s.frames_in_flight > 1;
  const gain = ratio(found.layer_by_layer / (several ? s.initiation_interval : s.latency));
  const overlap = several ? ` Overlap gives ${gain} the frames per second of layer by layer.`
    : gain === ratio(1) ? "" : ` Overlap makes it ${gain} faster than layer by layer.`;
  return [
    h("h3", { class: "next" }, "Where the time goes"),
    h("p", {}, h("b", {}, "Critical path: "),
      ranked(found.shares).filter(([, spent]) => spent / s.latency >= 0.005).map(([name, spent]) => `${name} ${percent(spent / s.latency)}`).join(", "), `.${overlap}`),
  ];
}

const fetching = (tasks) => tasks.length > 0 && tasks.every((task) => task.kind === "weight_load");

function shares(s) {
  const total = s.initiation_interval || 1;
  const rows = resources.map((name) => {
    const tasks = (data.queues[name] || []).map((id) => taskById.get(id));
    const work = tasks.reduce((sum, task) => sum + task.work, 0);
    const span = tasks.reduce((sum, task) => sum + task.end - task.start, 0);
    const energy = tasks.reduce((sum, task) => sum + task.energy, 0);
    const device = data.devices.find((d) => d.name === name);
    return { name, work, stall: span - work, energy, device, tasks };
  });
  const body = rows.map((row) => h("tr", {},
    h("th", { scope: "row" }, row.name),
    h("td", { class: "bar-cell wide" },
      h("div", { class: "bar-label" },
        h("span", {}, `${percent(row.work / total)} busy`),
        h("span", { class: "muted", title: `${percent(row.stall / total)} stalled within tasks` },
          causes(row.name, total).slice(0, 3).join(", "))),
      h("div", { class: "bar" },
        h("div", { style: { width: `${(100 * row.work) / total}%` } }),
        h("div", { class: "stalled", style: { width: `${(100 * row.stall) / total}%` } }))),
    h("td", { class: "num" }, row.device ? String(row.device.operators) : `${row.tasks.length} ${fetching(row.tasks) ? "fetches" : "copies"}`),
    h("td", { class: "num" }, row.device ? count(row.device.macs) : ""),
    h("td", { class: "num" }, picojoules(row.energy))));
  return [
    h("h3", {}, "Devices and channels"),
    h("div", { class: "scroll" }, h("table", { class: "compare" },
      head([["Queue", ""], [`Share of the ${s.initiation_interval === s.latency ? "frame" : "interval"}, and what it waits for`, ""], ["Operators", "num"], ["MAC", "num"],
        ["Energy", "num", "Dynamic energy per frame"]]),
      h("tbody", {}, ...body))),
    ...whereTimeGoes(s),
    ...proved(s),
  ];
}

function fillLegend() {
  const used = new Set(data.tasks.map(typeOf));
  byId("legend").replaceChildren(
    ...[...TYPES, "Transfer"].filter((type) => used.has(type)).map((type) =>
      h("span", {}, h("i", { style: { background: `var(--type-${type.toLowerCase()})` } }), type)),
    h("span", {}, h("i", { class: "stall-swatch" }), "stalled share of a task"),
    otherFrames.length ? h("span", {}, h("i", { class: "other-swatch" }), "other frames") : "");
  if (otherFrames.length) byId("timeline-note").textContent = "one frame, among those before and behind it";
}
