"""Records what modules of a model read and write during a forward pass, to find and verify its parts."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from logos_pl.lm.hooks import gathering


class Call(NamedTuple):
    """One call of a module: copies of the first tensor it read and of the first it returned."""

    module: nn.Module
    read: Tensor
    wrote: Tensor


def record_calls(run: Callable[[], object], modules: Iterable[nn.Module]) -> tuple[list[Call], object]:
    """Call ``run`` without gradient; returns the calls of ``modules`` in order, and the result of ``run``.

    Tensors are copied when read or written, so that later in-place changes show as differences.
    """
    calls: list[Call] = []
    entered: list[Tensor | None] = []

    def enter(read: Tensor | None) -> None:
        entered.append(None if read is None else read.clone())

    def leave(module: nn.Module, wrote: Tensor | None) -> None:
        read = entered.pop()
        if read is not None and wrote is not None:
            calls.append(Call(module, read, wrote.clone()))

    watched = list(modules)
    with (
        gathering([(module, enter) for module in watched], [(module, partial(leave, module)) for module in watched]),
        torch.no_grad(),
    ):
        result = run()
    return calls, result


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal shape and equal values; a cast to a wider type keeps the values and counts as equal."""
    return a.shape == b.shape and torch.equal(a.float(), b.to(a.device).float())


def arrives(wrote: Tensor, read: Tensor) -> bool:
    """Whether ``read`` equals ``wrote``, rounded if it is read in a narrower dtype (residual stream in fp32)."""
    return same_bits(wrote.to(read.dtype), read)
