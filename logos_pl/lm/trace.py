"""What modules of a model read and write during one forward pass; its parts are found and verified by it."""

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
    """Runs ``run`` without gradient and returns the calls of ``modules`` in order, with what ``run`` returned.

    Tensors are copied when they are read or written, so that work in place later on is seen as a difference.
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
    """Equal shape and equal values; a cast to a wider type keeps the value and so counts as equal."""
    return a.shape == b.shape and torch.equal(a.float(), b.to(a.device).float())


def arrives(wrote: Tensor, read: Tensor) -> bool:
    """Whether ``read`` is ``wrote``, rounded on the way where it is read in a narrower type (a stream kept in fp32)."""
    return same_bits(wrote.to(read.dtype), read)
