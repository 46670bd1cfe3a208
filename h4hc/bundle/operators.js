// The operator table: one row per operator with what it costs on every device, or why not.

const table = { sort: "index", descending: false, open: new Set() };

function shapeText(w) {
  const unequal = (a, b) => (a === b ? `${a}` : `${a}\u00d7${b}`);
  if (w.type === "Conv") {
    const extras = [];
    if (w.stride_h * w.stride_w > 1) extras.push(`/${unequal(w.stride_h, w.stride_w)}`);
    if (w.dilation_h * w.dilation_w > 1) extras.push(`dil ${unequal(w.dilation_h, w.dilation_w)}`);
    if (w.groups > 1) extras.push(w.groups === w.in_channels ? "depthwise" : `groups ${w.groups}`);
    if (w.transposed) extras.push("transposed");
    return `${w.in_channels}\u2192${w.out_channels}, ${w.kernel_h}\u00d7${w.kernel_w}${extras.length ? ` ${extras.join(" ")}` : ""}, ${w.out_h}\u00d7${w.out_w}`;
  }
  if (w.type === "MatMul") {
    return `${w.batch > 1 ? `${w.batch}\u00b7` : ""}[${w.m}\u00d7${w.k}]\u00b7[${w.k}\u00d7${w.n}]${w.dynamic ? " dynamic" : ""}`;
  }
  if (w.type === "Elementwise") return `${w.kind}, ${count(w.elements)} elements`;
  if (w.type === "Reduction") {
    return `${w.kind}, ${w.channels}\u00d7${w.in_h}\u00d7${w.in_w}\u2192${w.out_h}\u00d7${w.out_w}`;
  }
  if (w.type === "Move") return `${w.kind}, ${count(w.output_elements)} elements`;
  return `${w.op_type}, ${count(w.output_elements)} elements`;
}

// The fastest mode of a device for an operator; null where the device refuses it.
function fastest(operator, device) {
  const modes = operator.costs[device];
  if (!modes || "refused" in modes) return null;
  if (device === operator.device && modes[operator.mode]) return modes[operator.mode];
  return Object.values(modes).reduce((a, b) => (b.seconds < a.seconds ? b : a));
}

const columns = [
  { key: "index", label: "#", kind: "num", value: (o) => o.index },
  { key: "name", label: "Operator", value: (o) => o.name },
  { key: "type", label: "Type", value: (o) => o.kind },
  { key: "shape", label: "Shape", value: (o) => shapeText(o.workload) },
  { key: "device", label: "Device", value: (o) => o.device + o.mode },
  { key: "macs", label: "MAC", kind: "num", value: (o) => o.macs },
  ...deviceNames.map((name) => ({
    key: `time-${name}`, label: name, kind: "num", title: `Time on ${name}`,
    value: (o) => (fastest(o, name) || { seconds: Infinity }).seconds,
  })),
  { key: "energy", label: "Energy", kind: "num", value: (o) => o.energy },
  { key: "utilisation", label: "Util.", kind: "num", title: "Utilisation of the chosen device's arithmetic", value: (o) => o.utilisation },
  { key: "bound", label: "Bound", value: (o) => o.bound },
  { key: "source", label: "Source", value: (o) => o.source },
];

function prepareOperators() {
  data.operators.forEach((operator) => {
    operator.search = [operator.name, operator.kind, operator.device, ...operator.nodes,
      ...operator.inputs, ...operator.outputs].join("\n").toLowerCase();
  });
  fillSelect("filter-device", "All devices", deviceNames);
  fillSelect("filter-kind", "All types", [...new Set(data.operators.map((o) => o.kind))].sort());
  for (const id of ["filter-device", "filter-kind", "filter-text"]) {
    byId(id).addEventListener("input", fillOperators);
  }
}

function fillSelect(id, all, names) {
  byId(id).replaceChildren(h("option", { value: "" }, all),
    ...names.map((name) => h("option", { value: name }, name)));
}

function matching() {
  const text = byId("filter-text").value.toLowerCase();
  const device = byId("filter-device").value;
  const kind = byId("filter-kind").value;
  return data.operators.filter((o) => (!device || o.device === device) && (!kind || o.kind === kind)
    && o.search.includes(text));
}

function fillOperators() {
  const column = columns.find((c) => c.key === table.sort);
  const shown = matching();
  const order = (a, b) => (typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0);
  shown.sort((a, b) => {
    const difference = order(column.value(a), column.value(b)) || 0;
    return (table.descending ? -difference : difference) || a.index - b.index;
  });
  const total = data.operators.length;
  byId("operator-count").textContent = shown.length === total ? `${total}` : `${shown.length} of ${total}`;
  byId("operator-table").replaceChildren(operatorHead(), h("tbody", {}, ...shown.flatMap(operatorRows)));
}

function operatorHead() {
  return h("thead", {}, h("tr", {}, ...columns.map((column) => {
    const sorted = table.sort === column.key ? (table.descending ? "descending" : "ascending") : null;
    return h("th", { scope: "col", class: column.kind, "aria-sort": sorted, title: column.title },
      h("button", { type: "button", onclick: () => sortBy(column) }, column.label));
  })));
}

function sortBy(column) {
  const numeric = column.kind === "num" && column.key !== "index";
  table.descending = table.sort === column.key ? !table.descending : numeric;
  table.sort = column.key;
  fillOperators();
}

function operatorRows(operator) {
  const device = operator.mode ? `${operator.device} ${operator.mode}` : operator.device;
  const row = h("tr", {
    id: operator.anchor, class: "operator",
    onclick: (event) => {
      if (event.target.closest("a, button.link") || String(getSelection())) return;
      toggle(operator);
    },
  },
    h("td", { class: "num muted" }, String(operator.index)),
    h("th", { scope: "row", title: operator.name },
      h("button", { type: "button", class: "link", "aria-expanded": String(table.open.has(operator.name)),
        onclick: () => toggle(operator) }, shorten(operator.name, 34)),
      operator.nodes.length > 1 ? h("span", { class: "muted" }, ` ${operator.nodes.length} nodes`) : null),
    h("td", {}, h("i", { class: "dot", style: { background: `var(--type-${operator.workload.type.toLowerCase()})` } }), operator.kind),
    h("td", { class: "mono" }, shapeText(operator.workload)),
    h("td", {}, device),
    h("td", { class: "num" }, operator.macs ? count(operator.macs) : "\u2013"),
    ...deviceNames.map((name) => timeCell(operator, name)),
    h("td", { class: "num" }, operator.energy ? picojoules(operator.energy) : "\u2013"),
    h("td", { class: "num" }, operator.utilisation ? percent(operator.utilisation) : "\u2013"),
    h("td", {}, operator.bound),
    h("td", {}, operator.source));
  return table.open.has(operator.name) ? [row, detailRow(operator)] : [row];
}

function timeCell(operator, device) {
  const cost = fastest(operator, device);
  if (cost === null) {
    const reason = (operator.costs[device] || {}).refused || "not considered";
    return h("td", { class: "num refused", title: reason }, "no");
  }
  const text = cost.seconds ? seconds(cost.seconds) : "0";
  return h("td", { class: "num" }, device === operator.device ? h("b", {}, text) : text);
}

function toggle(operator) {
  if (!table.open.delete(operator.name)) table.open.add(operator.name);
  fillOperators();
}

function detailRow(operator) {
  const task = taskOfOperator.get(operator.name);
  const facts = [
    ["Nodes", operator.nodes.join(", ")],
    ["Fused", operator.epilogue.join(", ") || "nothing"],
    ["Reads", operator.inputs.join(", ") || "nothing"],
    ["Writes", operator.outputs.join(", ") || "nothing"],
    ["Weights", bytes(operator.weight_bytes) + (operator.resident_bytes ? `, ${bytes(operator.resident_bytes)} resident` : "")],
    ["Streams", operator.rows > 1 ? `${operator.rows} rows in ${operator.tiles} ${operator.tiles === 1 ? "tile" : "tiles"}` : "output appears at the end"],
  ];
  return h("tr", { class: "detail" }, h("td", { colspan: String(columns.length) },
    h("div", { class: "detail-body" },
      h("dl", { class: "facts wide" }, ...facts.map(fact)),
      h("table", { class: "small costs" },
        head([["Device", ""], ["Time", "num"], ["Energy", "num"], ["Util.", "num"], ["Source", ""],
          ["Time by part, overlapping", ""], ["Energy by part", ""]]),
        h("tbody", {}, ...deviceNames.flatMap((device) => costRows(operator, device)))),
      explainLine(operator),
      task ? h("button", { type: "button", onclick: () => {
        select(task.id, true);
        byId("timeline").scrollIntoView();
      } }, "Show in the timeline") : null)));
}

// The command that explains this operator; the button selects it where the clipboard is out of reach.
function explainLine(operator) {
  const quote = (text) => (/^[A-Za-z0-9_.+/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const model = quote(data.model.path || data.model.name);
  const others = [["precision", "int8"], ["weights", "stored"]].filter(([name, usual]) => data.options[name] !== usual)
    .map(([name]) => ` --${name} ${data.options[name]}`).join("");
  const code = h("code", {},
    `h4hc explain ${model} --target ${quote(data.target.name)}${others} --op ${quote(operator.name)}`);
  const copy = () => {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).catch(() => {});
  };
  return h("p", { class: "command" }, h("span", { class: "muted" }, "Parameters and their sources: "), code,
    h("button", { type: "button", class: "link", onclick: copy }, "Copy"));
}

const PARTS = ["compute", "output", "weights", "activations", "write", "overhead"];

function costRows(operator, device) {
  const modes = operator.costs[device];
  if (!modes || "refused" in modes) {
    return [h("tr", {}, h("td", {}, device),
      h("td", { colspan: "6", class: "refused" }, modes ? modes.refused : "not considered"))];
  }
  const compared = (data.validation[device] || {})[operator.class];
  const notes = Object.keys(modes).sort().flatMap((mode) => costRow(operator, device, mode, modes[mode]));
  return [...notes, h("tr", { class: "note" }, h("td", {}),
    h("td", { colspan: "6" }, compared ? `Validated against ${compared}` : "Not validated against a reference"))];
}

function costRow(operator, device, mode, cost) {
  const chosen = device === operator.device && mode === operator.mode;
  const terms = cost.terms || {};
  const energy = Object.entries(cost.energy || {}).sort((a, b) => b[1] - a[1]);
  const uncertain = cost.uncertainty === undefined ? "" : ` \u00b1 ${percent(cost.uncertainty)}`;
  const counts = Object.entries(cost.details || {}).map(([name, value]) =>
    `${name} ${name.endsWith("bytes") || name === "bytes written" ? bytes(value) : count(value)}`);
  return [
    h("tr", { class: chosen ? "own" : null },
      h("td", {}, mode ? `${device} ${mode}` : device),
      h("td", { class: "num" }, seconds(cost.seconds)), h("td", { class: "num" }, joules(cost.joules)),
      h("td", { class: "num" }, operator.macs ? percent(cost.utilisation) : "\u2013"),
      h("td", {}, cost.source + uncertain),
      partsCell(PARTS.filter((name) => terms[name]).map((name) => [name, terms[name]]), seconds, cost.bound),
      partsCell(energy, joules, null)),
    h("tr", { class: "note" }, h("td", {}), h("td", { colspan: "6", title: counts.join(", ") },
      h("b", {}, `${cost.bound} bound: `), cost.advice)),
  ];
}

function partsCell(parts, format, bound) {
  const longest = Math.max(...parts.map(([, value]) => value), Number.MIN_VALUE);
  return h("td", { class: "parts" }, ...parts.map(([name, value]) =>
    h("div", { class: name === bound ? "part decides" : "part" },
      h("span", {}, name), h("span", { class: "num" }, format(value)),
      h("div", { class: "bar" }, h("div", { style: { width: `${(100 * value / longest).toFixed(1)}%` } })))));
}
