"""What a training step takes in every variant of a GPU's backend: each layout of a fused epoch, steps fused or not, and
each layout with many heads at once.

An epoch's time is that of its steps and of what it costs besides them, on the host. A shorter epoch costs as much
besides: so the difference of both is the kernels' alone.
"""

from __future__ import annotations

import math
import time
import timeit
from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import median
from typing import Any

from fastmlp.backends.base import Backend
from fastmlp.network.tiers import Tier

from . import ours
from .contenders import AbsentError, Bound
from .heads import GRIDS, Heads, draw_heads
from .training import Training, draw

ROWS = {"cuda": (50_000, 10_000), "emulated": (130, 64)}  # of an epoch, and of the shorter one
EPOCHS = {"cuda": 20, "emulated": 1}  # timed, of each
EPOCHS_OF_HEADS = {"cuda": 5, "emulated": 1}  # likewise
HEADS = {"cuda": tuple(GRIDS), "emulated": (1,)}  # at once
LATE = "not begun: the time was up"
MOST_EMULATED = 1  # ways of each tier: emulations take seconds to compile


def measured(backend: Backend, device: str, seconds: float = math.inf) -> Iterator[dict[str, Any]]:
    """Of each variant its name and, in us a step, the whole epoch as called and the kernels alone.

    Or why there is no such variant ("absent"), or what is wrong with it ("wrong"). None begins once these seconds are
    over. device: "cuda" or "emulated".
    """
    end = time.monotonic() + seconds
    problems = [draw("step", backend.threads, rows=rows, device=device) for rows in ROWS[device]]
    for name, way, tier in variants(backend, MOST_EMULATED if device == "emulated" else None):
        late = {"absent": LATE} if time.monotonic() > end else None
        yield {"variant": name, **(late or _judged(way, tier, problems, EPOCHS[device]))}


def of_heads(backend: Backend, device: str, seconds: float = math.inf) -> Iterator[dict[str, Any]]:
    """The same in us a step and head, of each layout with so many heads at once."""
    end = time.monotonic() + seconds
    counts, threads = HEADS[device], backend.threads
    problems = {
        count: [draw_heads(threads, rows, *GRIDS[count], device=device, judged=1) for rows in ROWS[device]]
        for count in counts
    }
    for way in islice(backend.epoch_ways(), MOST_EMULATED if device == "emulated" else None):
        for count in counts:
            late = {"absent": LATE} if time.monotonic() > end else None
            found = late or _judged(way, Tier.FUSED_EPOCH, problems[count], EPOCHS_OF_HEADS[device])
            yield {"variant": f"{count} at once, {way.way}", **found}


def variants(backend: Backend, most: int | None = None) -> Iterator[tuple[str, Backend, Tier]]:
    """What the backend chooses itself in tiers 3 and 2, then each way that it has in either, or that many of them."""
    yield "tier 3", backend, Tier.FUSED_EPOCH
    yield "tier 2", backend, Tier.FUSED_OPS
    ways = ((2, backend.step_ways()), (3, backend.epoch_ways()), (2, backend.op_ways()))
    for tier, of_tier in ((Tier(number), of_tier) for number, of_tier in ways):
        for way in islice(of_tier, most):
            yield f"tier {tier.value}, {way.way}", way, tier


def _judged(backend: Backend, tier: Tier, problems: Sequence[Training | Heads], epochs: int) -> dict[str, Any]:
    try:
        seconds = [_per_epoch(backend, tier, problem, epochs) for problem in problems]
    except AbsentError as absence:
        return {"absent": str(absence)}
    except Exception as error:  # noqa: BLE001  (CuPy, NVRTC and the driver each raise their own; the next may run)
        return {"wrong": f"{type(error).__name__}: {error}"}
    steps = [problem.units for problem in problems]  # of all heads
    kernels = (seconds[0] - seconds[1]) / (steps[0] - steps[1])
    return {"epoch": round(1e6 * seconds[0] / steps[0], 2), "kernels": round(1e6 * kernels, 2)}


def _per_epoch(backend: Backend, tier: Tier, problem: Training | Heads, epochs: int) -> float:
    """The median of the seconds that an epoch takes, once the network that it trains has been found right."""
    bound = _bound(backend, tier, problem)
    bound.run()
    assert bound.result is not None
    problem.check(str(backend), bound.result())
    return median(timeit.repeat(bound.run, number=1, repeat=epochs))


def _bound(backend: Backend, tier: Tier, problem: Training | Heads) -> Bound:
    if isinstance(problem, Training):
        return ours.train(backend, problem, tier)
    bound = ours.train_together(backend, problem)
    if bound.facts["tier"] != tier.value:
        raise AbsentError(f"{bound.facts['tier_reason']}.")
    return bound


def table(found: Sequence[dict[str, Any]]) -> str:
    """In Markdown."""
    lines = ["| us a step | epoch | kernels alone |", "| --- | ---: | ---: |"]
    for one in found:
        cells = [one["epoch"], one["kernels"]] if "epoch" in one else [one.get("wrong") or one["absent"], ""]
        lines.append(f"| {one['variant']} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
