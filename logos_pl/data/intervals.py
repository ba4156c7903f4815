"""An endless stream of micro-batches, cut into epochs that end where a validation is due."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from logos_pl.data.packed_text import TextBatch


class ValidationIntervals:
    """Each pass over this ends at the next validation, and starts where training has come to, not where reading has.

    Lightning validates at the end of an epoch and resumes best between epochs, so an epoch here is what lies between
    two validations (the last one is shorter). It also fetches one batch ahead and may start a pass over again: batches
    that were fetched but not trained on are handed out again.

    Args:
        batches: the endless stream; its iterator is made once, so that the workers behind it go on.
        batches_to_validation: micro-batches from where training stands to the next validation.
    """

    def __init__(self, batches: Iterable[TextBatch], batches_to_validation: Callable[[], int]) -> None:
        self._batches = batches
        self._batches_to_validation = batches_to_validation
        self._iterator: Iterator[TextBatch] | None = None
        self._untrained: deque[TextBatch] = deque()

    def __iter__(self) -> Iterator[TextBatch]:
        """The micro-batches up to the next validation."""
        fetched = list(self._untrained)
        for index in range(self._batches_to_validation()):
            yield fetched[index] if index < len(fetched) else self._fetch()

    def trained(self) -> None:
        """The oldest batch handed out was trained on."""
        self._untrained.popleft()

    def _fetch(self) -> TextBatch:
        if self._iterator is None:
            self._iterator = iter(self._batches)
        batch = next(self._iterator)
        self._untrained.append(batch)
        return batch
