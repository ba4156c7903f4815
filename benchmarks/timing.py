"""Wall-clock times of things that are compared, taken in turns so that a change of load meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

Variants = Mapping[str, Callable[[], object]]
Clock = Callable[[], float]
Times = dict[str, list[float]]
"""Seconds by variant, one per round."""


class Ratio(NamedTuple):
    """Quotient of two variants, formed within each round; the table's times are medians of their own."""

    median: float
    lowest: float
    highest: float


def alternate(
    variants: Variants, repeats: int, device: torch.device, warm_up: int = 1, clock: Clock = time.perf_counter
) -> Times:
    """Time every variant once per round; each round starts with another one.

    Args:
        variants: What to time.
        repeats: Rounds.
        device: Where the work is done; the clock is read when it is finished.
        warm_up: Untimed runs of each variant before.
        clock: What to read: the wall clock, or the process's own CPU time, `time.process_time`.
    """
    names = list(variants)
    for name in names * warm_up:
        variants[name]()
    times: Times = {name: [] for name in names}
    for turn in range(repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(_seconds(variants[name], device, clock))
    return times


def ratio(times: Times, one: str, other: str) -> Ratio:
    """Time of ``one`` over time of ``other``, round by round."""
    quotients = [a / b for a, b in zip(times[one], times[other], strict=True)]
    return Ratio(statistics.median(quotients), min(quotients), max(quotients))


def _seconds(work: Callable[[], object], device: torch.device, clock: Clock) -> float:
    _finish(device)
    start = clock()
    work()
    _finish(device)
    return clock() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
