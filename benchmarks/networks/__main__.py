"""Write one network: ``python -m benchmarks.networks NAME -o FILE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx

from benchmarks.networks import NAMES, build


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument(
        "name", help=f"{', '.join(NAMES)}, or a MobileNet of another size: mobilenet_v2_0.5_96_10"
    )
    parser.add_argument("-o", "--output", type=Path, help="default: NAME.onnx")
    arguments = parser.parse_args()
    try:
        model = build(arguments.name)
    except KeyError as error:
        parser.error(str(error.args[0]))
    path = arguments.output or Path(f"{arguments.name}.onnx")
    onnx.save(model, path)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
