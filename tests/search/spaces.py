"""Spaces that the tests share: every shipped kind of block, in images and in sequences."""

from __future__ import annotations

from typing import Any

from h4hc.search.space import Space, space_from

SHIPPED = ("alphanet", "cnn-only", "h4h-imagenet", "h4h-tiny", "nasvit")


def kitchen_sink(dims: int = 2, **changes: Any) -> Space:
    """A small space with all kinds of blocks, odd extents, blocks that may be absent and genes per layer."""
    return space_from(
        {
            "schema": 1,
            "name": f"sink{dims}d",
            "dims": dims,
            "channels": 3,
            "classes": 5,
            "resolutions": [13, 18],
            "kernel_transform": True,
            "stem": {"width": [8, 16], "kernel": 5},
            "stages": [
                {
                    "width": [8, 16],
                    "groups": [
                        {"block": "vgg", "depth": [0, 1], "kernel": [3, 5]},
                        {"block": "resnet", "depth": [1, 2], "bottleneck": [0, 1]},
                    ],
                },
                {
                    "width": [16, 24],
                    "stride": 2,
                    "groups": [
                        {"block": "vgg", "depth": [0, 1]},
                        {"block": "dilated", "depth": [1, 2], "levels": [1, 2, 3]},
                        {
                            "block": "transformer",
                            "depth": [0, 1],
                            "heads": [1, 2],
                            "v_ratio": [1, 2],
                            "talking": [0, 1],
                            "v_conv": [0, 1, 3],
                            "gate": [0, 1],
                        },
                    ],
                },
                {
                    "width": [16, 32],
                    "stride": 2,
                    "groups": [
                        {
                            "block": "mbconv",
                            "depth": [1, 2, 3],
                            "per_layer": True,
                            "kernel": [3, 5, 7],
                            "expand": [1, 2, 4],
                            "se": [0, 1],
                            "project": [0, 1],
                        },
                        {"block": "transformer", "depth": [0, 2], "mlps": [1, 2], "position": [0, 1]},
                        {"block": "mbconv", "depth": [0, 1]},
                    ],
                },
            ],
            "head": {"kind": "conv", "width": [32, 64]},
            **changes,
        }
    )
