"""Times variants alternately, so that a change of load affects all of them equally."""

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
    """Ratio of two variants, formed within each round; unlike the times in the table, which are separate medians."""

    median: float
    lowest: float
    highest: float


def alternate(
    variants: Variants, repeats: int, device: torch.device, warm_up: int = 1, clock: Clock = time.perf_counter
) -> Times:
    """Time every variant once per round; each round starts with a different one.

    Args:
        variants: Functions to time, by name.
        repeats: Number of rounds.
        device: Device of the work, which is synchronised before reading the clock.
        warm_up: Number of untimed runs of each variant first.
        clock: Clock: wall-clock time, or CPU time of the process (`time.process_time`).
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
    """Ratio of the times of ``one`` and ``other``, per round."""
    quotients = [a / b for a, b in zip(times[one], times[other], strict=True)]
    return Ratio(statistics.median(quotients), min(quotients), max(quotients))


def elapsed(device: torch.device) -> float:
    """Seconds since some moment, with the device's work done: CPU time of this process, or the wall clock of a GPU.

    CPU time of one thread does not depend on other load; work on a GPU takes none.
    """
    finish(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()


def _seconds(work: Callable[[], object], device: torch.device, clock: Clock) -> float:
    finish(device)
    start = clock()
    work()
    finish(device)
    return clock() - start


def finish(device: torch.device) -> None:
    """Wait until a device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
