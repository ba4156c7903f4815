"""Splits an endless stream of micro-batches into epochs that end at validations."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from logos_pl.data.packed_text import TextBatch


class ValidationIntervals:
    """Iterates from the current training step to the next validation.

    Lightning validates at the end of an epoch and resumes best between epochs, so an epoch here is the interval between
    two validations (the last may be shorter). Lightning also prefetches a batch and may restart an epoch: batches that
    were fetched but not trained on are yielded again.

    Args:
        batches: Endless stream; iterated once, so that its workers keep running.
        batches_to_validation: Returns the number of micro-batches to the next validation.
    """

    def __init__(self, batches: Iterable[TextBatch], batches_to_validation: Callable[[], int]) -> None:
        self._batches = batches
        self._batches_to_validation = batches_to_validation
        self._iterator: Iterator[TextBatch] | None = None
        self._untrained: deque[TextBatch] = deque()

    def __iter__(self) -> Iterator[TextBatch]:
        """Yield the micro-batches up to the next validation."""
        fetched = list(self._untrained)
        for index in range(self._batches_to_validation()):
            yield fetched[index] if index < len(fetched) else self._fetch()

    def trained(self) -> None:
        """Record that the oldest yielded batch was trained on."""
        self._untrained.popleft()

    def _fetch(self) -> TextBatch:
        if self._iterator is None:
            self._iterator = iter(self._batches)
        batch = next(self._iterator)
        self._untrained.append(batch)
        return batch
