"""References that the cost models are compared with; one module each.

Every module offers ``sections() -> list[Section]`` (see `errors`), prints its own tables when run with
``python -m benchmarks.references.<name>`` and keeps its data in ``data/*.csv.xz``.
"""
