"""How much of anything a model may hold before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps that keep a hostile model from eating time or memory. Sizes are in bytes.

    `plain_bytes` is what a file may hold besides bulk data before its `fields` are counted.
    `nodes` counts after function inlining. `weight_bytes` is the sum over all initializers and
    constants (a bundle takes three times as much memory while it is made),
    `tensor_bytes` the size of any one tensor that the model computes. Integer results up to
    `fold_bytes`, and float results up to `fold_floats` elements, are computed at compile time;
    once `fold_total` is used up, only those up to a kibibyte.
    """

    file_bytes: int = 700_000_000
    plain_bytes: int = 16 * 2**20
    fields: int = 8_000_000
    weight_bytes: int = 600_000_000
    tensor_bytes: int = 2**30
    nodes: int = 200_000
    initializers: int = 200_000
    inputs: int = 10_000
    outputs: int = 10_000
    functions: int = 20_000
    function_bytes: int = 512 * 2**20
    ports: int = 20_000
    attributes: int = 256
    attribute_values: int = 65_536
    name_length: int = 1024
    rank: int = 32
    fold_bytes: int = 65_536
    fold_floats: int = 64
    fold_total: int = 64 * 2**20
    inference_elements: int = 1024


DEFAULT_LIMITS = Limits()
MIN_IR, MAX_IR = 3, 13
MIN_OPSET, MAX_OPSET = 7, 26
