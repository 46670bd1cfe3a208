"""Local search for the least initiation interval: Python twin of native/balance.c.

Late acceptance: a placement is taken if it is no worse than the one before it, or than the one `HISTORY` evaluations ago,
so that the search leaves local optima of which balanced placements have many. A placement whose busiest device or
link alone takes longer than that is passed over before it is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from h4hc.passes.core.climbing import Mover

DRAWS = 16  # moves drawn per evaluation: some change nothing, or only give the busiest queue more
HISTORY = 30

Score = tuple[float, float, float]
Rating = Callable[[Sequence[int], Sequence[int], float], Score]


def balance(
    data: Mapping[str, Any],
    modes: Sequence[int],
    tiles: Sequence[int],
    evaluations: int,
    mover: Mover,
    rate: Rating,
    keep: Callable[[bool], None] = lambda _: None,
) -> tuple[list[int], list[int]]:
    """The best placement found from the given one, with `rate` no less than the work of the busiest device or link.

    `rate` gets the largest score that counts (its second number), above which it may leave something out. `keep` is told
    that the search goes on from what was rated last, and whether it is the best so far.
    """
    mode, tile = list(modes), list(tiles)
    current = least = rate(mode, tile, inf)
    keep(True)
    at = best = list(mode), list(tile)
    past = [current] * HISTORY
    mover.fill_resident(mode)
    done = 0
    for _ in range(evaluations * DRAWS if data["operators"] else 0):
        if done >= evaluations:
            break
        if not mover.mutate(mode, tile):
            continue
        limit = max(past[done % HISTORY], current)
        accepted = limit[0] > 0 or busiest(data, mode, tile) <= limit[1]
        if accepted:
            score = rate(mode, tile, inf if limit[0] > 0 else limit[1])
            accepted = score <= limit
            if accepted:
                current, at = score, (list(mode), list(tile))
                keep(score <= least)
                if score <= least:
                    least, best = score, at
            past[done % HISTORY] = current
            done += 1
        if not accepted:
            mode, tile = list(at[0]), list(at[1])
            mover.fill_resident(mode)
    return list(best[0]), list(best[1])


def busiest(data: Mapping[str, Any], modes: Sequence[int], tiles: Sequence[int]) -> int:
    """The work of the busiest device, or of a link whose channels share evenly."""
    chosen = [data["mode_ptr"][v] + mode for v, mode in enumerate(modes)]
    device = [data["mode_device"][m] for m in chosen]
    memory = [data["dev_memory"][d] for d in device]
    devices, links = [0] * data["devices"], [0] * data["links"]
    for m, d, count in zip(chosen, device, tiles, strict=True):
        devices[d] += data["mode_work"][m] + (count - 1) * data["dev_overhead"][d]
    for tensor, producer in enumerate(data["producer"]):
        home = data["io_memory"] if producer < 0 else memory[producer]
        readers = data["cons_op"][data["cons_ptr"][tensor] : data["cons_ptr"][tensor + 1]]
        wanted = {memory[v] for v in readers} | ({data["io_memory"]} if data["sink"][tensor] else set())
        chunks = 1 if producer < 0 else tiles[producer]
        for there in wanted - {home}:
            link = data["link_of"][home * data["memories"] + there]
            links[link] += data["xfer_work"][link * data["tensors"] + tensor]
            links[link] += (chunks - 1) * data["link_overhead"][link]
    shares = [-(-work // channels) for work, channels in zip(links, data["link_channels"], strict=True)]
    return max([*devices, *shares], default=0)
