"""Files out: what a compilation leaves behind for firmware, for other tools and for people.

`write_bundle` writes the folder, `load_document` reads its schedule back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h4hc.bundle.store import load_document
    from h4hc.bundle.write import write_bundle

__all__ = ["load_document", "write_bundle"]


def __getattr__(name: str) -> Any:
    # Reading a bundle must not import what writing one needs.
    if name == "load_document":
        from h4hc.bundle.store import load_document

        return load_document
    if name == "write_bundle":
        from h4hc.bundle.write import write_bundle

        return write_bundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
