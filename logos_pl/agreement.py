"""Several processes refuse together: what one of them refuses, the others would wait for without end."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch.distributed

from logos_pl.errors import LogosError, RunError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def together(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, which every process of a run has to call; an error of ours in one of them is raised in all.

    The function itself must not communicate once a process alone may have failed: that one takes no part any more.
    """

    @functools.wraps(function)
    def in_all_or_none(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return function(*args, **kwargs)
        own: LogosError | None = None
        try:
            result = function(*args, **kwargs)
        except LogosError as error:
            own = error
        found = gather(None if own is None else (type(own), str(own)))
        for failure in found:
            if failure is not None:
                kind, message = failure
                shared = kind(message)
                shared.everywhere = True
                raise shared from own
        return result

    return in_all_or_none


def refuse_different(own: dict[str, Any]) -> None:
    """Make sure that every process of the run has the same; every process must call it.

    Raises:
        RunError: In every process, naming what differs.
    """
    first, *others = gather(own)
    for rank, other in enumerate(others, start=1):
        differing = [
            f"{name} is {first[name]} in the first and {other[name]} in process {rank}"
            for name in first
            if first[name] != other[name]
        ]
        if differing:
            refusal = RunError(
                f"The processes of the run differ: {'; '.join(differing)}; name it with its option instead of leaving "
                "it open, and start again."
            )
            refusal.everywhere = True
            raise refusal


def gather(own: Result) -> list[Result]:
    """What each process of the run has, in their order; every process must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    parts: list[Result] = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts
