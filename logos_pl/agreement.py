"""Collective error handling: an error in one process is raised in all, so that none waits forever."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch.distributed

from logos_pl.errors import LogosError, RunError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def together(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Wrap a function that every process calls, so that a LogosError in one process is raised in all.

    The function must not communicate after a point where a single process may have failed.
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
    """Check that all processes hold the same values; every process must call this.

    Raises:
        RunError: Values differ; raised in every process, with their names.
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
                f"The processes of the run differ: {'; '.join(differing)}; set it explicitly with its option and "
                "start again."
            )
            refusal.everywhere = True
            raise refusal


def gather(own: Result) -> list[Result]:
    """Values of all processes in order of rank; every process must call this."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    parts: list[Result] = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts
