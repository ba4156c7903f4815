"""How much of the copying of weights to a CUDA device runs beside the arithmetic, from a profile."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

Span = tuple[float, float]
"""Beginning and end."""


class Overlap(NamedTuple):
    """What a CUDA device did during some work.

    Attributes:
        seconds: From the first to the last thing it did.
        copying: Seconds in which weights or inputs were copied to it.
        computing: Seconds in which kernels ran.
        both: Seconds of both at once.
    """

    seconds: float
    copying: float
    computing: float
    both: float


def measure_overlap(work: Callable[[], object]) -> Overlap:
    """Profile some work on CUDA."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    copies: list[Span] = []
    kernels: list[Span] = []
    for event in profile.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            name, span = event.name, (event.time_range.start, event.time_range.end)
            if name.startswith("Memcpy HtoD"):
                copies.append(span)
            elif not name.startswith(("Memcpy", "Memset")):
                kernels.append(span)
    return overlap_of(copies, kernels)


def overlap_of(copies: Iterable[Span], kernels: Iterable[Span]) -> Overlap:
    """Lengths of the unions of spans and of their intersection; spans in µs, lengths in seconds."""
    one, other = union(copies), union(kernels)
    every = union([*one, *other])
    a, b, either = length(one), length(other), length(every)
    return Overlap((every[-1][1] - every[0][0]) / 1e6 if every else 0.0, a, b, a + b - either)


def union(spans: Iterable[Span]) -> list[Span]:
    """Spans without overlap that cover the same."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def length(spans: Iterable[Span]) -> float:
    """Seconds that spans in µs without overlap take."""
    return sum(end - start for start, end in spans) / 1e6
