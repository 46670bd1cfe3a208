"""The processes that train together: one, or as many as ``torchrun`` started.

The network is not wrapped: gradients of all subnets of a step are summed in each process first, then
exchanged once.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from h4hc.errors import OptionError

_PATIENCE = timedelta(hours=4)  # that the others have while the first one evaluates


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's number, how many there are, and the device it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def add_up(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over all processes."""
        if self.world > 1:
            torch.distributed.all_reduce(tensor)

    def agree(self, value: Any) -> Any:
        """The first process's `value` (JSON-like)."""
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1:
            torch.distributed.destroy_process_group()


def join_processes(device: str) -> Processes:
    """Join the group that ``torchrun`` describes in the environment, if it started this process."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world > 1:
        # Its functions' defaults keep the group that there is when it is imported, as the first step of an
        # optimizer does; threads of a group that outlive it abort the interpreter's exit now and then.
        importlib.import_module("torch.distributed.nn")
        torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    return Processes(rank, world, chosen)


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """PyTorch on `count` threads. One is fastest where layers are tiny: more wait for each other longer than they work."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(name: str, local: int = 0) -> torch.device:
    """``auto``: a GPU if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise OptionError(f"there is no device '{name}'", code="option", hint="choose auto, cpu or cuda")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not count:
            raise OptionError("PyTorch finds no GPU", code="option", hint="use --device cpu")
        index = device.index if device.index is not None else local
        if index >= count:
            raise OptionError(f"there is no GPU {index} of {count}", code="option",
                              hint="start at most one process per GPU")  # fmt: skip
        return torch.device("cuda", index)
    return device


def precision_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """The type that autocast computes in; None for plain 32 bits, which is what a CPU gets by default."""
    if name == "auto":
        name = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise OptionError("fp16 training needs a GPU", code="option", hint="use precision: bf16 or fp32")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
