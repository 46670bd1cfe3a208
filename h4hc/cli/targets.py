"""``h4hc targets``: what h4hc can compile for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from h4hc.cli.layout import Column, Fit, echo, paragraph, table, terminal_width
from h4hc.errors import TargetError

if TYPE_CHECKING:
    from pathlib import Path

    from h4hc.backends.base import Backend
    from h4hc.ir.target import Target

_MEMORY_UNITS = {
    "bytes": "bytes",
    "bandwidth": "bandwidth",
    "latency": "time",
    "energy_per_byte": "energy per byte",
}
_LINK_UNITS = {
    "bandwidth": "bandwidth",
    "latency": "time",
    "tile_overhead": "time",
    "energy_per_byte": "energy per byte",
}
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (SI units) for programs.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, show and validate targets."""


@command.command("list")
@_json_option
def list_targets(as_json: bool) -> None:
    """List the targets that ship with h4hc."""
    from h4hc.backends import load_target, target_names

    targets = [load_target(name) for name in target_names()]
    if as_json:
        _print_json([{"name": t.name, "description": t.description, "devices": _names(t)} for t in targets])
        return
    rows = [(target.name, ", ".join(_names(target)), target.description) for target in targets]
    _print("", {"target": Fit.TEXT, "devices": Fit.TEXT, "description": Fit.PROSE}, rows)


@command.command()
@click.argument("name")
@click.option("--sources", is_flag=True, help="Also list where each number comes from.")
@_json_option
def show(name: str, sources: bool, as_json: bool) -> None:
    """Show a target, given by name or as a file: memories, devices, links and peak figures."""
    from h4hc.backends import load_backends, load_target

    target = load_target(name)
    backends = load_backends(target)
    if as_json:
        figures = {
            device: {
                "tops": backend.peak().tops,
                "tops_per_watt": backend.peak().tops_per_watt,
                "static_watts": backend.static_watts,
                "resident_weight_bytes": backend.capacity_bytes,
                "area_mm2": backend.area_mm2,
                "parameters": backend.parameters.model_dump(mode="json"),
            }
            for device, backend in backends.items()
        }
        _print_json({"target": target.model_dump(mode="json"), "sha256": target.sha256, "devices": figures})
        return
    from h4hc.ir.quantity import format_quantity

    echo(paragraph(f"{target.name}: {target.description}", terminal_width()))
    click.echo(f"inputs and outputs at {target.io}, hand-off {format_quantity(target.handoff, 'time')}")
    _print_devices(target, backends)
    _print_quantities("memories", target.memories, _MEMORY_UNITS)
    if target.links:
        _print_quantities("links", target.links, _LINK_UNITS)
    if sources:
        described = {f"{target.name}": target.sources}
        described |= {memory.name: memory.sources for memory in target.memories}
        described |= {link.name: link.sources for link in target.links}
        described |= {name: backend.parameters.sources for name, backend in backends.items()}
        rows = [(name, field, source) for name, each in described.items() for field, source in each.items()]
        _print("sources", {"of": Fit.TEXT, "value": Fit.TEXT, "source": Fit.PROSE}, rows)


def _print_devices(target: Target, backends: Mapping[str, Backend]) -> None:
    from h4hc.ir.quantity import format_quantity

    areas = any(backend.area_mm2 for backend in backends.values())
    rows = []
    for device in target.devices:
        backend, peak = backends[device.name], backends[device.name].peak()
        capacity = format_quantity(backend.capacity_bytes, "bytes") if backend.capacity_bytes else "-"
        ends = (device.preset or device.kind, device.memory, device.weights or "-")
        static = format_quantity(backend.static_watts, "power")
        area = [f"{backend.area_mm2:.3g}" if backend.area_mm2 else "-"] if areas else []
        rows.append(
            (device.name, *ends, f"{peak.tops:.3g}", f"{peak.tops_per_watt:.3g}", static, capacity, *area)
        )
    texts = dict.fromkeys(("device", "preset", "memory", "weights"), Fit.TEXT)
    numbers = dict.fromkeys(("TOPS", "TOPS/W", "static", "resident", *(["mm2"] if areas else [])), Fit.NUMBER)
    _print("devices (peak at 8 bit x 8 bit)", texts | numbers, rows)


@command.command()
@click.argument("file")
def validate(file: str) -> None:
    """Check a target file and list every problem in it."""
    from h4hc.backends.base import check_target
    from h4hc.backends.files import target_path

    path: Path = target_path(file)
    _, problems = check_target(path)
    if not problems:
        click.echo(f"{path}: is a valid target")
        return
    for problem in problems:
        click.echo(f"{path}: {problem}", err=True)
    count = len(problems)
    raise TargetError(f"{path}: {count} problem{'s' if count > 1 else ''}", code="bad-target")


def _names(target: Target) -> list[str]:
    return [device.name for device in target.devices]


def _print_quantities(title: str, items: tuple[Any, ...], units: dict[str, str]) -> None:
    from h4hc.ir.quantity import format_quantity

    linked = hasattr(items[0], "memories")
    rows = [
        (
            item.name,
            " - ".join(item.memories) if linked else item.kind,
            *(format_quantity(getattr(item, key), unit) for key, unit in units.items()),
        )
        for item in items
    ]
    texts = {"name": Fit.TEXT, "joins" if linked else "kind": Fit.TEXT}
    _print(title, texts | {key.replace("_", " "): Fit.NUMBER for key in units}, rows)


def _print(title: str, columns: dict[str, Fit], rows: Sequence[Sequence[str]]) -> None:
    """A table, below a line with its title if it has one."""
    if title:
        echo(f"\n{click.style(title, bold=True)}")
    echo(table([Column(name, fit) for name, fit in columns.items()], rows, terminal_width()))


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
