"""The compiled twin of h4hc.passes.core.reference. Optional: without a C compiler the Python version runs."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "h4hc.passes.core._native",
            ["h4hc/passes/core/native.c"],
            extra_compile_args=["-O2", "-std=c11", "-Wall", "-Wextra", "-ffp-contract=off"],
            optional=True,
        )
    ]
)
