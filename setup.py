"""The compiled twin of h4hc.passes.core.reference. Optional: without a C compiler the Python version runs."""

from setuptools import Extension, setup

NATIVE = "h4hc/passes/core/native"

setup(
    ext_modules=[
        Extension(
            "h4hc.passes.core._native",
            [
                f"{NATIVE}/{name}.c"
                for name in (
                    "module",
                    "problem",
                    "simulate",
                    "resume",
                    "trace",
                    "contents",
                    "frames",
                    "room",
                    "climb",
                    "start",
                    "balance",
                    "tune",
                    "weave",
                    "flow",
                    "cut",
                    "capacity",
                    "fetch",
                    "loop",
                    "memory",
                    "spill",
                    "reuse",
                )
            ],
            depends=[
                f"{NATIVE}/native.h",
                f"{NATIVE}/tasks.h",
                f"{NATIVE}/climb.h",
                f"{NATIVE}/flow.h",
                f"{NATIVE}/frames.h",
            ],
            extra_compile_args=["-O2", "-std=c11", "-Wall", "-Wextra", "-ffp-contract=off"],
            optional=True,
        )
    ]
)
