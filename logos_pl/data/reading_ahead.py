"""Batches that carry the model's residual stream, because a streamed model reads many batches together."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

Stage = Literal["train", "val", "test", "predict"]
"""Purpose of the batches of a loader."""

ReadAhead = Callable[[Stage, Any], Any]
"""Returns a loader that reads ahead; the attribute `read_ahead` of every data module, set by the module."""


def as_it_is(stage: Stage, loader: Any) -> Any:
    """The loader itself: the model reads each batch when its turn comes."""
    return loader


class ReadAheadLoader:
    """A loader whose batches are read in groups.

    Args:
        loader: Yields the batches.
        read: Yields the same batches with the model's residual stream.
    """

    def __init__(self, loader: Any, read: Callable[[Iterable[Any]], Iterator[Any]]) -> None:
        self._loader = loader
        self._read = read

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return self._read(self._loader)
