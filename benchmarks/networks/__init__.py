"""Published networks rebuilt as ONNX: exact shapes, seeded weights, nothing downloaded.

    python -m benchmarks.networks mobilenet_v2_1.0_224 -o mobilenet_v2.onnx

A name is one of `NAMES`, or ``mobilenet_v1_<width>_<resolution>[_<classes>]`` and likewise for V2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from onnx import ModelProto

from benchmarks.networks import deit, inception, mobilenet, resnet, tiny

_FIXED: dict[str, Callable[[], ModelProto]] = {
    "deit_tiny": deit.deit_tiny,
    "inception_v1": inception.inception_v1,
    "mlperf_tiny_ad": tiny.anomaly_detection,
    "mlperf_tiny_ic": tiny.image_classification,
    "mlperf_tiny_kws": tiny.keyword_spotting,
    "mlperf_tiny_vww": tiny.visual_wake_words,
    "mobilenet_v3_large": mobilenet.mobilenet_v3_large,
    "resnet18": resnet.resnet18,
    "resnet50": resnet.resnet50,
    "squeezenet_1.1": mobilenet.squeezenet_1_1,
}
_FAMILIES = {"v1": mobilenet.mobilenet_v1, "v2": mobilenet.mobilenet_v2}
_FAMILY_NAME = re.compile(r"mobilenet_(v[12])_([0-9]+\.[0-9]+)_([0-9]+)(?:_([0-9]+))?")

NAMES = (
    *sorted(_FIXED),
    *(f"mobilenet_v1_{alpha}_224" for alpha in ("0.25", "0.5", "0.75", "1.0")),
    *(f"mobilenet_v2_{alpha}_224" for alpha in ("0.35", "1.0", "1.4")),
)


def build(name: str) -> ModelProto:
    """The network called `name`. Raises KeyError if there is none."""
    return _maker(name)()


def _maker(name: str) -> Callable[[], ModelProto]:
    if name in _FIXED:
        return _FIXED[name]
    found = _FAMILY_NAME.fullmatch(name)
    if found is None:
        raise KeyError(f"there is no network {name}; there are {', '.join(NAMES)}")
    family, alpha, resolution, classes = found.groups()
    return partial(_FAMILIES[family], float(alpha), int(resolution), int(classes or 1000))
