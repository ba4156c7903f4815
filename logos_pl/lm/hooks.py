"""All forward hooks: they gather or replace what modules read and write, or end the forward pass.

Each is a context manager that removes its hooks at the end, also if the forward pass fails.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

Take = Callable[[Tensor | None], object]
"""Called with the first tensor that a module reads or writes (not a copy), or None if there is no tensor."""


class Watch(NamedTuple):
    """What is gathered of a forward pass: the arguments of ``gathering``, so that they can be put together first.

    Attributes:
        reads: Modules, each with what takes its first input before it runs.
        writes: Modules, each with what takes its first output once it has run.
    """

    reads: Sequence[tuple[nn.Module, Take]] = ()
    writes: Sequence[tuple[nn.Module, Take]] = ()


@contextmanager
def gathering(
    reads: Iterable[tuple[nn.Module, Take]] = (), writes: Iterable[tuple[nn.Module, Take]] = ()
) -> Iterator[None]:
    """Within a ``with`` statement, pass on what some modules read and write at every call.

    Args:
        reads: Modules, each with a function that takes its first input before it runs.
        writes: Modules, each with a function that takes its first output after it runs.
    """
    with ExitStack() as hooks:
        for module, take in reads:
            hooks.enter_context(module.register_forward_pre_hook(_before(take), with_kwargs=True))
        for module, take in writes:
            hooks.enter_context(module.register_forward_hook(_after(take)))
        yield


@contextmanager
def replacing(module: nn.Module, tensor: Tensor) -> Iterator[None]:
    """Within a ``with`` statement, a module returns ``tensor``, or its tuple or list with ``tensor`` first."""

    def replace(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return type(output)((tensor, *output[1:])) if isinstance(output, tuple | list) else tensor

    with module.register_forward_hook(replace):
        yield


@contextmanager
def stopping_after(module: nn.Module) -> Iterator[None]:
    """End the ``with`` block as soon as a module has run; hooks set earlier still see its output."""

    def stop(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        raise _Stop(module)

    with module.register_forward_hook(stop):
        try:
            yield
        except _Stop as reached:
            if reached.module is not module:
                raise


class _Stop(Exception):  # noqa: N818 - no error: a hook can end a forward pass by an exception only
    def __init__(self, module: nn.Module) -> None:
        super().__init__(f"{type(module).__name__} has run")
        self.module = module


# A value returned by a hook would replace the tensor, so the result of ``take`` is dropped.
def _before(take: Take) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        take(first_tensor(args, kwargs))

    return hook


def _after(take: Take) -> Callable[[nn.Module, tuple[Any, ...], object], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        take(output_tensor(output))

    return hook


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Tensor | None:
    """The first tensor among positional arguments, else ``hidden_states`` or the first among keywords."""
    named = kwargs or {}
    values = [*args, named.get("hidden_states"), *named.values()]
    return next((value for value in values if isinstance(value, Tensor)), None)


def with_first_tensor(
    args: tuple[Any, ...], kwargs: dict[str, Any], tensor: Tensor | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with ``tensor`` in the place of the one that ``first_tensor`` finds."""
    for index, value in enumerate(args):
        if isinstance(value, Tensor):
            return (*args[:index], tensor, *args[index + 1 :]), kwargs
    names = ["hidden_states", *kwargs]
    name = next(name for name in names if isinstance(kwargs.get(name), Tensor))
    return args, kwargs | {name: tensor}


def output_tensor(output: object) -> Tensor | None:
    """A module's result: the tensor itself, or the first of a tuple."""
    if isinstance(output, tuple | list):
        return first_tensor(tuple(output))
    return output if isinstance(output, Tensor) else None
