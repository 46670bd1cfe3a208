"""The numbers behind a cost as their files state them, with where each comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from h4hc.backends.files import load_preset
from h4hc.bundle.store import Document
from h4hc.ir.quantity import format_quantity
from h4hc.ir.target import split_sources

_MEMORY_UNITS = {"bandwidth": "bandwidth", "latency": "time", "energy_per_byte": "energy per byte"}
_ARRAY = (
    "clock", "cores", "ublock", "more_ublocks", "channel_ublock", "step_channels", "rows", "columns", "dataflow",
    "preload", "pack_groups", "words", "compute_units", "macros", "read_time", "fixed_time", "bit_time",
    "bits_per_cycle", "mac_cycles",
)  # fmt: skip
# Parameters of each part of the time, whatever the kind of device; those that a device lacks are left out.
_OF_TERM: Mapping[str, tuple[str, ...]] = {
    "compute": ("clock",),
    "weights": ("weights bandwidth", "weights latency", "weight_compression"),
    "activations": ("activations bandwidth", "activations latency", "io_bandwidth", "input_buffer"),
    "output": ("clock", "output_clock", "output_elements_per_cycle"),
    "write": ("write_bits", "write_time", "macros", "overlap_write", "weights bandwidth"),
    "overhead": ("clock", "operator_cycles", "sync_time", "call_cycles"),
    "command": ("clock", "operator_cycles"),
}
# What else decides the arithmetic of a class of kernels.
_OF_CLASS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("first convolution", "convolution", "pointwise", "fully connected"), _ARRAY),
    "depthwise": (*_ARRAY, "depthwise_mac_cycles"),
    "product": (*_ARRAY, "matmul_native", "matmul_macs_per_cycle", "matmul_traffic"),
    "elementwise": ("elementwise_cycles", "elementwise"),
    "table": ("lut_cycles", "elementwise_cycles", "elementwise"),
    "pooling": ("output_cycles", "reduction"),
    "softmax": ("softmax_cycles", "softmax_traffic", "reduction"),
    "norm": ("norm_cycles", "norm_traffic", "reduction"),
    "transpose": ("transpose_cycles", "copy_cycles", "move_run_cycles"),
    "resize": ("resize_cycles", "copy_cycles", "move_run_cycles"),
    "copy": ("copy_cycles", "move_run_cycles"),
    "other": ("cycles_per_operation",),
}
_BY_OUTPUT = frozenset(
    ("first convolution", "convolution", "pointwise", "fully connected", "depthwise", "product")
)


class Given(NamedTuple):
    """A parameter as it was written, and its source."""

    value: str
    source: str


def given(device: Document, target: Document) -> dict[str, Given]:
    """The parameters of a device (its preset's, the target's on top) and of the memories it uses."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if device["preset"] is not None:
        values, sources = split_sources(load_preset(device["preset"]).parameters)
    own, own_sources = split_sources(device["parameters"])
    values |= own
    sources |= {name: own_sources.get(name, "given by the target") for name in own}
    found = {name: Given(_text(values[name]), sources.get(name, "not stated")) for name in values}
    memories = {memory["name"]: memory for memory in target["memories"]}
    for role, name in (("activations", device["memory"]), ("weights", device["weights"] or device["memory"])):
        found |= _memory(role, memories[name])
    return found


def _memory(role: str, memory: Document) -> dict[str, Given]:
    return {
        f"{role} {field.replace('_', ' ')}": Given(
            f"{format_quantity(memory[field], unit)} ({memory['name']})",
            memory.get("sources", {}).get(field, "given by the target"),
        )
        for field, unit in _MEMORY_UNITS.items()
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def deciding(known: Mapping[str, Given], terms: Iterable[str], kind: str) -> dict[str, Given]:
    """Those of `known` that make up the deciding terms of a kernel of class `kind`."""
    names: dict[str, None] = {}
    for term in terms:
        names |= dict.fromkeys(_OF_TERM.get(term, ()))
        if term == "compute" or (term == "output" and kind not in _BY_OUTPUT):
            names |= dict.fromkeys(_OF_CLASS.get(kind, ()))
        elif term == "output":
            names |= dict.fromkeys(("output_cycles", "relu_cycles", "lut_cycles"))
    return {name: known[name] for name in names if name in known}
