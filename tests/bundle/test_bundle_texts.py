"""Texts of JSON put together from parts: the same as the json module writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h4hc.bundle.store import encode, indented, json_encoder
from h4hc.bundle.texts import RecordTexts, filled, object_text, with_texts

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=5)
FLAT = st.dictionaries(st.text(), SCALARS | st.lists(SCALARS), max_size=5)


@given(VALUES, st.sampled_from((1, 2)))
def test_indented_as_the_json_module_does(value: Any, step: int) -> None:
    assert indented(value, step) == json.dumps(value, sort_keys=True, indent=step, ensure_ascii=False)


@given(VALUES)
def test_values_as_the_json_module_does(value: Any) -> None:
    assert encode(value) == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode([float("nan")])


def test_without_the_compiled_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    assert json_encoder(allow_nan=False)({"b": "x", "a": [1.5]}) == '{"a":[1.5],"b":"x"}'


@given(FLAT, OBJECTS)
def test_an_object_with_finished_fields(fields: dict[str, Any], values: dict[str, Any]) -> None:
    texts = {name: encode(value) for name, value in values.items()}
    assert with_texts(fields, texts, encode) == encode({**fields, **values})


@given(st.lists(st.tuples(FLAT, VALUES)))
def test_gaps_are_filled_in_order(pairs: list[tuple[dict[str, Any], Any]]) -> None:
    text = encode([{**fields, "gap": 0} for fields, _ in pairs])
    values = [f'"gap":{encode(value)}' for _, value in pairs]
    assert filled(text, '"gap":0', values) == encode([{**fields, "gap": value} for fields, value in pairs])


def test_a_gap_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="zip"):
        filled("[0]", "1", ["2"])


@given(OBJECTS)
def test_an_object_of_finished_fields(fields: dict[str, Any]) -> None:
    assert object_text({name: encode(value) for name, value in fields.items()}, encode) == encode(fields)


def test_equal_costs_are_encoded_once() -> None:
    calls = []

    def counted(value: Any) -> str:
        calls.append(value)
        return encode(value)

    row = {"npu": {"": {"seconds": 1e-6}, "prefetch": {"seconds": 5e-7}}, "cim": {"refused": "no room"}}
    texts = RecordTexts(counted)
    first = texts.operator({"name": "a", "costs": row, "z": 1})
    assert first == encode({"name": "a", "costs": row, "z": 1})
    assert texts.operator({"name": "b", "costs": row}) == encode({"name": "b", "costs": row})
    assert sum(value == {"seconds": 1e-6} for value in calls) == 1
