"""Targets that name profiles: found beside the target, part of its hash, never silently changed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import yaml
from profile_toy import Toy, add, conv, linear, profile, row, target

from h4hc.backends import load_backends, load_target
from h4hc.backends.profiles.load import book_of, calibration_of, read_source
from h4hc.backends.profiles.model import Profiled
from h4hc.backends.profiles.stored import calibration_text, parse_calibration
from h4hc.backends.profiles.table import write_profile
from h4hc.errors import ProfileError, TargetError
from h4hc.ir.target import Target


def store(folder: Path, *profiles: str, factor: float = 1.5) -> Path:
    """A target file that names `profiles`, and acme.csv beside it."""
    rows = [row(linear(m=100 * i), factor * (1e-4 * i + 1e-6)) for i in range(1, 11)]
    write_profile(profile(*rows, row(conv(), 5e-4)), folder / "acme.csv")
    written = yaml.safe_load(_yaml())
    written["devices"][0]["profiles"] = list(profiles)
    (folder / "acme.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    return folder / "acme.yaml"


def _yaml() -> str:
    memory = "kind: sram, bytes: 2 MiB, bandwidth: 1 GB/s, latency: 0 s, energy_per_byte: 1 pJ/B"
    return f"""
h4hc_target: "1.0"
name: acme
io: host
handoff: 1 us
memories: [{{name: sram, {memory}}}, {{name: flash, {memory.replace("sram", "flash")}}}]
devices:
- {{name: toy, kind: toy, memory: sram, weights: flash}}
- {{name: host, kind: host, preset: cortex-m55, memory: sram}}
"""


def calibrate(folder: Path, path: Path) -> None:
    described = target()
    base = Toy(described.device("toy"), described)
    source = read_source(folder / "acme.csv")
    path.write_text(calibration_text(calibration_of([source], book_of([source], base, described), base)))


def test_profiles_are_found_beside_the_target(tmp_path: Path) -> None:
    backend = load_backends(load_target(store(tmp_path, "acme.csv")))["toy"]
    assert isinstance(backend, Profiled)
    sources = [backend.costs(kernel)[0].source for kernel in (linear(m=300), linear(m=350), add())]
    assert sources == ["measured (acme.csv)", "interpolated (acme.csv)", "analytical"]
    assert (backend.name, backend.static_watts, backend.peak()) == ("toy", 1e-3, backend.base.peak())


def test_the_contents_are_part_of_what_a_target_is(tmp_path: Path) -> None:
    first = load_target(store(tmp_path, "acme.csv"))
    assert first.sha256 == load_target(store(tmp_path, "acme.csv")).sha256
    assert first.sha256 != load_target(store(tmp_path, "acme.csv", factor=1.6)).sha256
    dumped = first.model_dump(mode="json")["devices"][0]["profiles"]
    assert [sorted(entry) for entry in dumped] == [["path", "sha256"]]
    assert dumped[0]["path"] == "acme.csv"  # not where this machine keeps it


def test_a_target_travels_between_processes(tmp_path: Path) -> None:
    first = load_target(store(tmp_path, "acme.csv"))
    again = pickle.loads(pickle.dumps(first.restrict(["toy"])))
    assert load_backends(again)["toy"].costs(linear(m=300)) == load_backends(first)["toy"].costs(
        linear(m=300)
    )


def test_a_target_reads_back_from_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_target(store(tmp_path, "acme.csv"))
    monkeypatch.chdir(tmp_path)
    described = {"devices": first.model_dump(mode="json")["devices"]}
    fields = yaml.safe_load(_yaml()) | described
    assert isinstance(load_backends(Target.model_validate(fields))["toy"], Profiled)


def test_a_profile_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    found = load_target(store(tmp_path, "acme.csv"))
    store(tmp_path, "acme.csv", factor=1.7)
    with pytest.raises(ProfileError, match="has changed since the target was read"):
        load_backends(found)


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        (["none.csv"], "none.csv: cannot be read: No such file"),
        ([""], r"devices\[0\].profiles\[0\].path"),
        ([{"path": "acme.csv", "sha256": "0" * 64}], "its contents are not those that the target names"),
        ([{"path": "acme.csv", "sha": ""}], r"profiles\[0\].sha: unknown key; did you mean"),
        (["acme.yaml"], "line 1: is not an h4hc profile"),
        (["cal.json", "cal.json"], "cal.json is its second calibration"),
        (["bad.json"], "is not valid JSON"),
        (["other.json"], "is no calibration that this h4hc reads"),
    ],
)
def test_bad_references(tmp_path: Path, profiles: list[str], message: str) -> None:
    path = store(tmp_path, *profiles)
    calibrate(tmp_path, tmp_path / "cal.json")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(TargetError, match=message):
        load_target(path)


def test_a_calibration_of_its_own(tmp_path: Path) -> None:
    path = store(tmp_path, "acme.csv", "cal.json")
    calibrate(tmp_path, tmp_path / "cal.json")
    stored = load_backends(load_target(path))["toy"]
    derived = load_backends(load_target(store(tmp_path, "acme.csv")))["toy"]
    far = linear(m=90_000)
    assert stored.costs(far) == derived.costs(far)
    alone = load_backends(load_target(store(tmp_path, "cal.json")))["toy"]
    assert alone.costs(far)[0].seconds == stored.costs(far)[0].seconds
    assert alone.costs(linear(m=300))[0].source == "calibrated (acme.csv)"


def test_a_calibration_is_the_same_every_time(tmp_path: Path) -> None:
    store(tmp_path)
    calibrate(tmp_path, tmp_path / "one.json")
    calibrate(tmp_path, tmp_path / "two.json")
    text = (tmp_path / "one.json").read_text()
    assert text == (tmp_path / "two.json").read_text()
    assert calibration_text(parse_calibration(text.encode(), "x")) == text


def test_a_stale_calibration_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path, "acme.csv", "cal.json")
    calibrate(tmp_path, tmp_path / "cal.json")
    store(tmp_path, "acme.csv", "cal.json", factor=1.6)
    with pytest.raises(TargetError, match=r"was not fitted to acme\.csv as it is now"):
        load_target(path)
    store(tmp_path, "acme.csv", "cal.json")
    faster = path.read_text().replace("kind: toy", "kind: toy\n  parameters: {clock: 200 MHz}", 1)
    path.write_text(faster)
    with pytest.raises(TargetError, match="fitted to another description of the device"):
        load_target(path)


def test_a_calibration_with_a_wrong_field(tmp_path: Path) -> None:
    store(tmp_path)
    calibrate(tmp_path, tmp_path / "cal.json")
    document = json.loads((tmp_path / "cal.json").read_text())
    document["shape"]["overlap"] = "much"
    with pytest.raises(ProfileError, match=r"x: shape\.overlap: "):
        parse_calibration(json.dumps(document).encode(), "x")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1", "-1.5"])
def test_a_calibration_holds_no_strange_numbers(tmp_path: Path, number: str) -> None:
    store(tmp_path)
    calibrate(tmp_path, tmp_path / "cal.json")
    text = (tmp_path / "cal.json").read_text().replace('"overlap": 1.0', f'"overlap": {number}', 1)
    with pytest.raises(ProfileError, match=r"is not valid JSON: .* is not a number of zero or more"):
        parse_calibration(text.encode(), "x")


def test_without_profiles_nothing_is_wrapped() -> None:
    assert isinstance(load_backends(target())["toy"], Toy)
