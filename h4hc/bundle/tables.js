// Transfers and the target.

function fillTransfers() {
  const transfers = data.tasks.filter((task) => task.kind === "transfer");
  byId("transfer-count").textContent = transfers.length
    ? `${transfers.length}, ${bytes(data.summary.transferred_bytes)}` : "";
  if (!transfers.length) {
    byId("transfer-table").replaceChildren(h("tbody", {}, h("tr", {}, h("td", { class: "muted" },
      "Nothing is copied between memories."))));
    return;
  }
  const rows = transfers.map((task) => h("tr", {},
    h("th", { scope: "row" }, taskLink(task)),
    h("td", {}, `${memoriesOf(task.reads)} \u2192 ${memoriesOf(task.writes)}`),
    h("td", {}, task.resource),
    h("td", { class: "num" }, bytes(task.bytes)),
    h("td", { class: "num" }, moment(task.start, 1)),
    h("td", { class: "num" }, duration(task.end - task.start)),
    h("td", { class: "num" }, picojoules(task.energy)),
    h("td", {}, ...operatorLinks(data.tasks.filter((other) => other.writes.some((id) => task.reads.includes(id))))),
    h("td", {}, ...operatorLinks(data.tasks.filter((other) => other.reads.some((id) => task.writes.includes(id)))))));
  byId("transfer-table").replaceChildren(
    head([["Tensor", ""], ["Memories", ""], ["Channel", ""], ["Bytes", "num"], ["Start", "num"],
      ["Duration", "num"], ["Energy", "num"], ["Written by", ""], ["Read by", ""]]),
    h("tbody", {}, ...rows));
}

function memoriesOf(ids) {
  return [...new Set(ids.map((id) => bufferById.get(id).memory))].join(", ");
}

function operatorLinks(tasks) {
  const operators = tasks.map((task) => operatorByName.get(task.operator)).filter(Boolean);
  if (!operators.length) return [h("span", { class: "muted" }, "the outside")];
  return operators.flatMap((operator, index) => [index ? ", " : "",
    h("a", { href: `#${operator.anchor}`, title: operator.name }, shorten(operator.name, 24))]);
}

function fillTarget() {
  byId("target-description").textContent = data.target.description || "";
  byId("device-table").replaceChildren(
    head([["Device", ""], ["Kind", ""], ["Preset", ""], ["Activations in", ""], ["Spills to", ""],
      ["Static power", "num"], ["Resident weights", "num"], ["Operators", "num"], ["MAC", "num"]]),
    h("tbody", {}, ...data.devices.map((device) => {
      const described = data.target.devices.find((d) => d.name === device.name);
      const inOut = device.name === data.target.io ? h("span", { class: "muted" }, " inputs and outputs") : null;
      return h("tr", {}, h("th", { scope: "row" }, device.name, inOut),
        h("td", {}, device.kind), h("td", {}, described.preset || "\u2013"),
        h("td", {}, device.memory), h("td", {}, device.spill || "\u2013"),
        h("td", { class: "num" }, si(device.static_watts, "W")),
        h("td", { class: "num" }, device.capacity ? `${bytes(device.resident)} of ${bytes(device.capacity)}` : "\u2013"),
        h("td", { class: "num" }, String(device.operators)), h("td", { class: "num" }, count(device.macs)));
    })));
  byId("memory-table").replaceChildren(
    head([["Memory", ""], ["Kind", ""], ["Size", "num"], ["Bandwidth", "num"], ["Latency", "num"],
      ["Energy per byte", "num"], ["Alignment", "num"]]),
    h("tbody", {}, ...data.target.memories.map((memory) => h("tr", {},
      h("th", { scope: "row" }, memory.name), h("td", {}, memory.kind),
      h("td", { class: "num" }, bytes(memory.bytes)), h("td", { class: "num" }, si(memory.bandwidth, "B/s")),
      h("td", { class: "num" }, seconds(memory.latency)),
      h("td", { class: "num" }, joules(memory.energy_per_byte)),
      h("td", { class: "num" }, bytes(memory.alignment))))));
  byId("link-table").replaceChildren(
    head([["Link", ""], ["Between", ""], ["Channels", "num"], ["Bandwidth", "num"], ["Latency", "num"],
      ["Per further tile", "num"], ["Energy per byte", "num"]]),
    h("tbody", {}, ...data.links.map((link) => h("tr", {},
      h("th", { scope: "row" }, link.name), h("td", {}, link.memories.join(" \u2013 ")),
      h("td", { class: "num" }, String(link.channels)), h("td", { class: "num" }, si(link.bandwidth, "B/s")),
      h("td", { class: "num" }, duration(link.latency)), h("td", { class: "num" }, duration(link.tile_overhead)),
      h("td", { class: "num" }, joules(link.energy_per_byte)))),
      h("tr", {}, h("th", { scope: "row" }, "hand-off"), h("td", { class: "muted" }, "between any two queues"),
        h("td", {}), h("td", {}), h("td", { class: "num" }, duration(data.handoff)), h("td", {}), h("td", {}))));
}
