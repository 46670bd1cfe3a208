"""The `h4hc` program, also started by `python -m h4hc`."""

from __future__ import annotations

import atexit
import gc

from h4hc.cli import main


def run() -> None:
    """Run the command line."""
    # One command and out: collecting what is about to be freed anyway costs a tenth of the time of a compilation.
    gc.disable()
    atexit.register(gc.freeze)
    main(prog_name="h4hc")


if __name__ == "__main__":
    run()
