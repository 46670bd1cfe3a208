"""report.html: one self-contained page that shows a schedule to people.

The page is a template with its style sheet and scripts, and the schedule as JSON inside; the
scripts put names on the page as text only. It needs nothing from the network, and its content policy
forbids it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from h4hc.backends.validation import validation
from h4hc.bundle.advice import advice
from h4hc.bundle.bottlenecks import Bottlenecks, bottlenecks
from h4hc.bundle.document import read_kernel
from h4hc.bundle.recurrence import recurrence_bound
from h4hc.bundle.store import Document, json_encoder
from h4hc.bundle.texts import RecordTexts, object_text, with_texts
from h4hc.bundle.timing import Replay, Timing
from h4hc.ir.workload import Kernel, kernel_class

if TYPE_CHECKING:
    from h4hc.bundle.measured import Measured

REPORT = "report.html"
SCRIPTS = (
    "page.js",
    "core.js",
    "overview.js",
    "timeline.js",
    "memory.js",
    "operators.js",
    "tables.js",
    "measured.js",
    "main.js",
)
# Where the page says no more than the schedule needs for a checker.
OMITTED_OF_OPERATORS = frozenset(("constants", "prefix", "streams"))

_encode = json_encoder(allow_nan=True)
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_UNSAFE_IN_SCRIPT = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render_report(
    document: Document,
    replayed: Replay,
    measured: Measured | None = None,
    texts: RecordTexts | None = None,
) -> str:
    """The page for `document`, with what a real run took if that was measured.

    `texts` has the texts of records, if other files take them as well.
    """
    template, fixed = _template()
    parts = {
        **fixed,
        "title": html.escape(f"{document['model']['name']} on {document['target']['name']}"),
        "data": in_script(page_json(document, replayed, measured, texts or RecordTexts(_encode))),
    }
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], template)


@lru_cache(maxsize=1)
def _template() -> tuple[str, Mapping[str, str]]:
    """The page, and what stands in it whatever it shows."""
    folder = resources.files("h4hc.bundle")
    return folder.joinpath("report.html").read_text("utf-8"), {
        "style": folder.joinpath("report.css").read_text("utf-8"),
        "script": "\n".join(folder.joinpath(name).read_text("utf-8") for name in SCRIPTS),
    }


def script_json(data: Any) -> str:
    """`data` as JSON that may stand in a script element."""
    return in_script(_encode(data))


def in_script(text: str) -> str:
    """JSON that may stand in a script element: nothing in it can close the element."""
    # Faster than str.translate, which looks at every character.
    for character, escaped in _UNSAFE_IN_SCRIPT.items():
        text = text.replace(character, escaped)
    return text


def page_json(document: Document, replayed: Replay, measured: Measured | None, texts: RecordTexts) -> str:
    """What the page's scripts read: the document, with timings in the tasks and anchors in the operators."""
    operators, target = document["operators"], document["target"]
    anchors = operator_anchors([operator["name"] for operator in operators])
    kernels = _kernels(operators)
    rows, costs = _shared_costs(operators, kernels, target, texts)
    classes = [kernel_class(kernel) for kernel in kernels]
    kept = ("model", "target", "options", "tick_seconds", "summary", "devices", "links", "memories", "claims")
    data = {key: document[key] for key in (*kept, "producer", "queues", "handoff")} | {
        "operators": [
            _operator(operator, {"anchor": anchor, "costs": row, "class": kind})
            for operator, anchor, row, kind in zip(operators, anchors, rows, classes, strict=True)
        ],
        "prefetch": document.get("prefetch"),
        "recurrence_bound": recurrence_bound(document),
        "validation": _validations(target, set(classes)),
        "bottlenecks": _bottlenecks(bottlenecks(document, replayed)),
        "tasks": [_task(task, replayed.timings.get(task["id"])) for task in document["tasks"]],
    }
    if measured is not None:
        data["measured"] = measured.to_json()
    lists = {"buffers": map(texts.record, document["buffers"]), "costs": costs}
    return with_texts(data, {name: f"[{','.join(items)}]" for name, items in lists.items()}, _encode)


def _kernels(operators: list[Document]) -> list[Kernel]:
    """The kernel of each operator; operators that share a record of costs have the same."""
    known: dict[int, Kernel] = {}
    for operator in operators:
        if id(operator["costs"]) not in known:
            known[id(operator["costs"])] = read_kernel(operator)
    return [known[id(operator["costs"])] for operator in operators]


def _shared_costs(
    operators: list[Document], kernels: list[Kernel], target: Document, texts: RecordTexts
) -> tuple[list[int], list[str]]:
    """The costs of each operator as an index into those of distinct kernels, which have a line of advice on each."""
    numbers: dict[tuple[str, Kernel], int] = {}
    rows: list[int] = []
    costs: list[str] = []
    for operator, kernel in zip(operators, kernels, strict=True):
        row = operator["costs"]
        key = texts.row(row), kernel
        if key not in numbers:
            numbers[key] = len(costs)
            advised = {name: _advised(entry, kernel, name, target, texts) for name, entry in row.items()}
            costs.append(object_text(advised, _encode))
        rows.append(numbers[key])
    return rows, costs


def _advised(entry: Document, kernel: Kernel, device: str, target: Document, texts: RecordTexts) -> str:
    """The costs of a device as JSON."""
    if "refused" in entry:
        return _encode(entry)
    modes = {}
    for mode, cost in entry.items():
        line = advice(cost, kernel, device, target)
        modes[mode] = f'{{"advice":{_encode(line)},{texts.record(cost)[1:]}'
    return object_text(modes, _encode)


def _validations(target: Document, classes: set[str]) -> Document:
    """Per device and class of kernel that occurs: what its preset was compared with, in words."""
    return {
        device["name"]: {
            kind: str(found) for kind in sorted(classes) if (found := validation(device["preset"], kind))
        }
        for device in target["devices"]
    }


def operator_anchors(names: list[str]) -> list[str]:
    """The fragment of each operator's row: ``op-`` and the name's plain characters, made unique."""
    anchors: list[str] = []
    taken: set[str] = set()
    for name in names:
        wanted = anchor = "op-" + re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-")
        number = 1
        while anchor in taken:
            number += 1
            anchor = f"{wanted}-{number}"
        taken.add(anchor)
        anchors.append(anchor)
    return anchors


def _operator(operator: Document, more: Document) -> Document:
    record = operator | more
    for name in OMITTED_OF_OPERATORS:
        record.pop(name, None)
    return record


def _bottlenecks(found: Bottlenecks) -> Document:
    """The tasks on the critical path, its ticks by resource, and what each resource waits for."""
    return {
        "path": list(dict.fromkeys(step.task for step in found.path)),
        "shares": found.shares,
        "idle": {entry.resource: entry.causes for entry in found.idle},
        "layer_by_layer": found.layer_by_layer,
    }


def _task(task: Document, timing: Timing | None) -> Document:
    """A task with a wait as [task, tiles before the first tile, before the last, latency, reason]."""
    waits = [
        [wait["task"], wait["counts"][0], wait["counts"][-1], wait["latency"], wait["reason"]]
        for wait in task["waits"]
    ]
    if timing is None:
        return task | {"waits": waits}
    why = [timing.cause, timing.blocker, timing.latency, timing.stalled_on]
    return task | {"waits": waits, "stall": timing.stall, "why": why}
