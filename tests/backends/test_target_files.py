"""Target files: what is accepted, and what is said about the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from backend_helpers import description
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from h4hc.backends import load_backends, load_target, target_names
from h4hc.backends.base import check_target
from h4hc.backends.files import load_preset, preset_names
from h4hc.errors import TargetError
from h4hc.ir.quantity import UNITS, format_quantity, parse_quantity, sensible_range


def write(folder: Path, data: Any) -> Path:
    path = folder / "target.yaml"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def problems(folder: Path, data: Any) -> list[str]:
    return check_target(write(folder, data))[1]


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("2 MiB", "bytes", 2**21),
        ("4 GB/s", "bandwidth", 4e9),
        ("1 us", "time", 1e-6),
        ("1µs", "time", 1e-6),
        ("5.9 pJ/B", "energy per byte", 5.9e-12),
        ("10 mW", "power", 0.01),
        ("1 GHz", "frequency", 1e9),
        ("1.5e3 kB", "bytes", 1.5e6),
    ],
)
def test_quantities(text: str, dimension: str, value: float) -> None:
    assert parse_quantity(text, dimension) == value


@pytest.mark.parametrize(
    "text", ["4", 4, "4 GB", "-4 GB/s", "GB/s", "4 gb/s", "4  GB/s", "nan GB/s", "", None, [4]]
)
def test_bad_quantities_list_the_units(text: object) -> None:
    with pytest.raises(PydanticCustomError, match="one of the units B/s, kB/s"):
        parse_quantity(text, "bandwidth")


@pytest.mark.parametrize(
    "text, dimension",
    [
        ("1e999 B", "bytes"),
        ("9" * 400 + " B", "bytes"),
        ("1e300 s", "time"),
        ("1e-300 s", "time"),
        ("1 B/s", "bandwidth"),
        ("1e12 uJ/B", "energy per byte"),
    ],
)
def test_quantities_far_out_of_range_are_refused(text: str, dimension: str) -> None:
    with pytest.raises(PydanticCustomError, match=f"is no sensible {dimension}") as caught:
        parse_quantity(text, dimension)
    assert len(str(caught.value)) < 100


@given(st.sampled_from(sorted(UNITS)), st.floats(0.01, 0.99))
def test_formatting_round_trips(dimension: str, share: float) -> None:
    least, greatest = sensible_range(dimension)
    value = least ** (1 - share) * greatest**share
    assert parse_quantity(format_quantity(value, dimension), dimension) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", target_names())
def test_shipped_targets(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert set(load_backends(target)) == {device.name for device in target.devices}
    assert target.device(target.io).kind == "host"
    for item in (*target.memories, *target.links):
        assert {"bandwidth", "latency", "energy_per_byte"} <= set(item.sources)


def test_shipped_names() -> None:
    assert target_names() == [
        "cim",
        "npu",
        "npu+cim",
        "npu+cim-cu4",
        "npu+cim-sram",
        "npu+cim-u65",
        "ort-cpu",
    ]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_value_has_a_source(name: str) -> None:
    for key, item in load_preset(name).parameters.items():
        assert set(item) == {"value", "source"}, key
        assert item["source"]


def test_values_with_sources(tmp_path: Path) -> None:
    target = load_target(write(tmp_path, description(handoff={"value": "2 us", "source": "measured"})))
    assert target.handoff == 2e-6
    assert target.sources == {"handoff": "measured"}


def test_hash_ignores_spelling(tmp_path: Path) -> None:
    one = load_target(write(tmp_path, description(handoff="1 us")))
    same = load_target(write(tmp_path, description(handoff="1000 ns")))
    other = load_target(write(tmp_path, description(handoff="2 us")))
    assert one.sha256 == same.sha256 != other.sha256


def changed(where: str, value: Any) -> dict[str, Any]:
    """The small target with one field of its first memory or device changed."""
    part, field = where.split(".")
    data = description()
    data[part][0][field] = value
    return data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            changed("memories.bandwidth", "4"),
            "memories[0].bandwidth: '4' is no bandwidth; write a number and one",
        ),
        (changed("memories.bandwidth", "4 GB"), "units B/s, kB/s, MB/s, GB/s"),
        (changed("memories.bytes", "0 MiB"), "memories[0].bytes: '0 MiB' must be greater than zero"),
        (changed("memories.bytes", "1.5 B"), "not a whole number of bytes"),
        (changed("memories.kind", "tape"), "memories[0].kind: input should be 'sram'"),
        (
            changed("memories.bandwith", "4 GB/s"),
            "memories[0].bandwith: unknown key; did you mean bandwidth?",
        ),
        (changed("devices.memory", "sramm"), "devices[0].memory: no memory is called sramm; there is sram"),
        (changed("devices.spill", "sram"), "devices[0].spill: is the device's own memory sram"),
        (changed("devices.kind", "npu"), "io: device host is of kind npu; name one of kind host"),
        (changed("devices.kind", "gpu"), "io: device host is of kind gpu"),
        (changed("devices.preset", "cortex-m5"), "no preset called cortex-m5; did you mean cortex-m55?"),
        (changed("devices.preset", "ethos-u65-256"), "is for kind npu, not host"),
        (changed("devices.parameters", {"clock": "4"}), "parameters.clock: '4' is no frequency"),
        (
            changed("devices.parameters", {"clok": "4 MHz"}),
            "parameters.clok: unknown key; did you mean clock?",
        ),
        (changed("devices.precisions", ["int8"]), "devices[0].precisions[0]: string should match pattern"),
        (description(io="cpu"), "io: no device is called cpu; there is host"),
        (description(h4hc_target="2.0"), "h4hc_target: version 2.0 is not supported; this h4hc reads 1.0"),
        (description(h4hc_target=1.0), "h4hc_target: input should be a valid string"),
        (description(handof="1 us"), "handof: unknown key; did you mean handoff?"),
        (description(memories=[]), "no memory is called sram; there is none at all"),
        (
            description(devices=description()["devices"] * 2),
            "devices[1].name: host is already used by devices[0]",
        ),
        ("", "does not hold a mapping"),
        ("- 1", "does not hold a mapping"),
        ("a: [", "is not valid YAML"),
        ("a: 1\na: 2", "key a on line 2 is there twice"),
        ("a: &x 1\nb: *x", "alias *x"),
        ("a: !!python/object/apply:os.system [echo]", "is not valid YAML"),
        ("[" * 100 + "]" * 100, "nested more than 32 deep"),
        ("? [1]\n: 2", "is not a plain word"),
        ("\x00", "is not valid YAML"),
    ],
)
def test_problems_are_told_in_one_line(tmp_path: Path, data: Any, expected: str) -> None:
    found = problems(tmp_path, data)
    assert any(expected in line for line in found), found
    assert all("\n" not in line for line in found)


def test_links_must_join_what_devices_compute_in(tmp_path: Path) -> None:
    data = description()
    data["memories"].append(data["memories"][0] | {"name": "far"})
    data["devices"].append(data["devices"][0] | {"name": "second", "memory": "far"})
    assert problems(tmp_path, data) == [
        "links: none joins the memories sram and far, which devices compute in"
    ]


def test_first_problem_and_count(tmp_path: Path) -> None:
    path = write(tmp_path, description(handof="1 us", io=3))
    with pytest.raises(TargetError) as caught:
        load_target(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: io: ")
    assert "1 more problem, listed by h4hc targets validate" in text


def test_missing_fields(tmp_path: Path) -> None:
    data = description()
    del data["memories"][0]["latency"]
    assert problems(tmp_path, data) == ["memories[0].latency: is missing; add it"]


def test_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(TargetError, match=r"no target called npu\+cin; did you mean npu\+cim\?"):
        load_target("npu+cin")
    with pytest.raises(TargetError, match="known targets: cim, npu"):
        load_target("zzz")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot be read"):
        load_target(tmp_path / "none.yaml")
    with pytest.raises(TargetError, match="is not a regular file"):
        load_target(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff")
    with pytest.raises(TargetError, match="is not UTF-8 text"):
        load_target(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_bytes(b" " * (1 << 21))
    with pytest.raises(TargetError, match="is larger than"):
        load_target(tmp_path / "big.yaml")


def test_restrict_keeps_the_host_and_drops_the_rest() -> None:
    whole = load_target("npu+cim")
    part = whole.restrict(["npu"])
    assert [d.name for d in part.devices] == ["npu", "host"]
    assert [m.name for m in part.memories] == ["sram", "dram"]
    assert part.links == ()
    assert whole.restrict(["npu", "cim"]) is whole
    with pytest.raises(TargetError, match="no device is called gpu"):
        whole.restrict(["gpu"])


def test_look_ups() -> None:
    target = load_target("npu+cim")
    assert target.link_between("cim_sram", "sram") is target.link_between("sram", "cim_sram")
    with pytest.raises(TargetError, match="no link joins the memories sram and dram"):
        target.link_between("sram", "dram")
    with pytest.raises(TargetError, match="no memory is called flash; it has sram, cim_sram, dram"):
        target.memory("flash")


def test_third_party_kind_is_explained(tmp_path: Path) -> None:
    data = description()
    data["devices"].append({"name": "x", "kind": "gpuu", "memory": "sram"})
    assert "entry points h4hc.backends" in problems(tmp_path, data)[0]
