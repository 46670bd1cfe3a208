"""A bar that counts what is done, for commands whose work has a known size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial


@contextmanager
def counting(
    what: str, total: int, *, shown: bool = True, live: bool = True
) -> Iterator[Callable[..., None]]:
    """A bar of `total` things, seen on a terminal if `shown`; its function takes ``completed=`` or ``advance=``.

    Without `live` no thread redraws the bar, which then needs ``refresh=True``.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, auto_refresh=live, disable=hidden) as bar:
        yield partial(bar.update, bar.add_task("", total=total))
