"""Batches that come with what the model gives on them, because a streamed model reads many of them together."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

Stage = Literal["train", "val", "test", "predict"]
"""What the batches of a loader are for."""

ReadAhead = Callable[[Stage, Any], Any]
"""From a loader, one that reads ahead; the attribute `read_ahead` of every data module, set by the module."""


def as_it_is(stage: Stage, loader: Any) -> Any:
    """The loader itself: the model reads each batch when its turn comes."""
    return loader


class ReadAheadLoader:
    """A loader whose batches are read in groups.

    Args:
        loader: Yields the batches; of as many as it has, if it has a length.
        read: Yields the same batches with what the model gives on them.
    """

    def __init__(self, loader: Any, read: Callable[[Iterable[Any]], Iterator[Any]]) -> None:
        self._loader = loader
        self._read = read

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return self._read(self._loader)
