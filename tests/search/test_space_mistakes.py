"""Space files, subnets and blocks that are wrong: told in one line that says where."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from h4hc.errors import SpaceError
from h4hc.search import blocks
from h4hc.search.blocks import Block
from h4hc.search.space import load_space, space_from
from h4hc.search.subnet import from_dict, from_json

GOOD: dict[str, Any] = {
    "schema": 1,
    "name": "good",
    "resolutions": [32],
    "stem": {"width": 8},
    "stages": [{"width": [8, 16], "groups": [{"block": "mbconv", "depth": 1}]}],
}
STAGE = GOOD["stages"][0]
TRANSFORMER = {"block": "transformer", "depth": [0, 1]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema: input should be 1"),
        ({"rezolutions": [3]}, "rezolutions: unknown key; did you mean resolutions?"),
        ({"resolutions": []}, "resolutions: "),
        ({"resolutions": [64, 32]}, "resolutions: [64, 32] must rise without repeats"),
        ({"resolutions": [32, 32]}, "must rise without repeats"),
        ({"resolutions": [0]}, "resolutions: 0 must be a number from 1 to"),
        ({"resolutions": ["large"]}, "resolutions[0]: "),
        ({"stem": {"width": 8, "kernel": 4}}, "stem.kernel: 4 must be odd"),
        ({"stages": []}, "stages: "),
        ({"stages": [{**STAGE, "width": [2.5]}]}, "stages[0].width[0]: "),
        (
            {"stages": [{**STAGE, "groups": [{"block": "mbcon", "depth": 1}]}]},
            "no block mbcon; did you mean mbconv?",
        ),
        (
            {"stages": [{**STAGE, "groups": [{"block": "mbconv", "depth": 1, "kernal": 3}]}]},
            "stages[0].groups[0].kernal: mbconv has no gene kernal; did you mean kernel?",
        ),
        (
            {"stages": [{**STAGE, "groups": [{"block": "mbconv", "depth": 1, "kernel": [3, 4]}]}]},
            "stages[0].groups[0].kernel: 4 must be odd from 1 to 15",
        ),
        ({"stages": [{**STAGE, "groups": [TRANSFORMER]}]}, "a transformer block may come first"),
        ({"stages": [{**STAGE, "groups": [{"block": "vgg", "depth": [0, 1]}]}]}, "all may be empty"),
        (
            {"stages": [{**STAGE, "groups": [{"block": "vgg", "depth": 65}]}]},
            "depth: 65 must be a number from 0 to 64",
        ),
        (
            {"stages": [{**STAGE, "groups": [{"block": "mbconv", "depth": 1, "genes": 3}]}]},
            "stages[0].groups[0].genes: ",
        ),
        (
            {
                "stages": [
                    {**STAGE, "groups": [{"block": "vgg", "depth": 1, "genes": {"kernel": 3}, "kernel": 5}]}
                ]
            },
            "kernel is given twice, beside and in genes",
        ),
        ({"defaults": {"mbconv": {"se": 2}}}, "defaults.mbconv.se: 2 must be a number from 0 to 1"),
        ({"head": {"kind": "v3"}}, "head.width: head of kind v3 needs one"),
        ({"head": {"kind": "pool", "width": 8}}, "head.width: head of kind pool has none"),
        ({"name": "a b"}, "name: "),
        (
            {
                "stages": [
                    {
                        "width": 8,
                        "groups": [
                            STAGE["groups"][0],
                            {**TRANSFORMER, "heads": list(range(1, 60)), "head_size": list(range(1, 60))},
                        ],
                    }
                ]
            },
            "stages[0].groups[1]: has 3481 kinds of blocks, more than 1024",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(changes: dict[str, Any], message: str) -> None:
    space_from(GOOD)
    with pytest.raises(SpaceError) as caught:
        space_from({**GOOD, **changes})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(GOOD))
    assert load_space(file) == load_space(str(file)) == space_from(GOOD)
    file.write_text("stages: [")
    with pytest.raises(SpaceError, match=r"mine\.yaml: is not valid YAML"):
        load_space(file)
    with pytest.raises(SpaceError, match=r"cannot be read: No such file"):
        load_space(tmp_path / "none.yaml")
    with pytest.raises(SpaceError, match=r"no space called h4h-tinny; did you mean h4h-tiny\?"):
        load_space("h4h-tinny")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(space="other"), "it is of other"),
        (lambda d: d.update(resolution=9), "resolution is 9, not one of [8]"),
        (lambda d: d["stages"].pop(), "with 2 stages"),
        (lambda d: d["stages"][0]["groups"].pop(), "a stage has 0 groups"),
        (lambda d: d["stages"][0]["groups"][0].update(block="vgg"), "has other blocks or genes"),
        (lambda d: d["stages"][0]["groups"][0]["genes"].pop("se"), "has other blocks or genes"),
        (
            lambda d: d["stages"][0]["groups"][0]["genes"].update(expand=[1, 2]),
            "s1.mb.expand is 1 and 2 in blocks that share it",
        ),
        (lambda d: d.pop("head"), "subnet must be a mapping with the keys"),
        (lambda d: d.update(stem="4"), "subnet.stem must be a whole number"),
        (lambda d: d.update(stages=3), "subnet.stages must be a list"),
        (lambda d: d["stages"][0]["groups"][0].update(depth=10**9), "depth must be from 0 to 64"),
        (lambda d: d["stages"][0]["groups"][0]["genes"].update(expand=[2]), "must be a list of 2 numbers"),
    ],
)
def test_foreign_subnets_are_refused(change: Any, message: str) -> None:
    space = load_space("h4h-tiny")
    data = space.largest().to_dict()
    change(data)
    with pytest.raises(SpaceError) as caught:
        space.program(from_dict(data))
    assert message in str(caught.value)


def test_vectors_are_checked() -> None:
    space = load_space("h4h-tiny")
    with pytest.raises(SpaceError, match="has 12 numbers, not 3"):
        space.decode([0, 0, 0])
    with pytest.raises(SpaceError, match=r"gene stem has 2 choices; 2 is not the index"):
        space.decode([2] + [0] * 11)
    with pytest.raises(SpaceError, match="not valid JSON"):
        from_json("{")


def test_other_packages_add_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(b: Any, x: Any, width: int, stride: int, genes: Any) -> Any:
        return b.act(b.conv(x, "only", width, genes["taps"], stride), "act")

    block = Block("plugged", "mb", "cnn", "map", True, {"taps": blocks.KERNEL}, build)

    class Entry:
        name = "plugged"

        def load(self) -> Any:
            return block

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Entry()] if group == "h4hc.blocks" else [])
    blocks.blocks.cache_clear()
    try:
        groups = [{"block": "plugged", "depth": 1, "taps": [3, 5]}, {"block": "mbconv", "depth": 1}]
        space = space_from({**GOOD, "stages": [{"width": 8, "groups": groups}]})
        assert [gene.name for gene in space.genes] == ["s1.mb.taps"]
        names = [section.name for section in space.program(space.largest()).sections]
        assert names == ["stem", "s1.mb0", "s1.mb_2_0", "head"]
        assert space.macs(space.largest()) > space.macs(space.smallest())
        block = Block("vgg", "x", "cnn", "map", True, {}, build)
        blocks.blocks.cache_clear()
        with pytest.raises(
            SpaceError, match=r"entry point plugged of h4hc\.blocks is not a Block of a new name"
        ):
            space_from(GOOD)
    finally:
        blocks.blocks.cache_clear()
