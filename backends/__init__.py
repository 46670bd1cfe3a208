"""Cost models of devices, and the targets and presets that ship with h4hc."""

from h4hc.backends.base import Backend, load_backends, load_target
from h4hc.backends.files import target_names

__all__ = ["Backend", "load_backends", "load_target", "target_names"]
