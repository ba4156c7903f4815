from collections.abc import Iterator
from itertools import count, islice

import torch

from logos_pl.data.intervals import ValidationIntervals
from logos_pl.data.packed_text import TextBatch


def endless() -> Iterator[TextBatch]:
    for number in count():
        yield TextBatch(torch.tensor([[number]]), torch.tensor([[0]]), {})


def numbers(batches: Iterator[TextBatch]) -> list[int]:
    return [int(batch.input_ids) for batch in batches]


class Training:
    """Stands at some micro-batch; validates every four, ten in all."""

    def __init__(self, done: int = 0) -> None:
        self.done = done
        self.intervals = ValidationIntervals(endless(), lambda: min(self.done // 4 * 4 + 4, 10) - self.done)

    def train(self, batch: TextBatch) -> int:
        self.intervals.trained()
        self.done += 1
        return int(batch.input_ids)


def test_epochs_end_at_validations_and_the_last_is_shorter() -> None:
    training = Training()

    epochs = [[training.train(batch) for batch in training.intervals] for _ in range(4)]

    assert epochs == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


def test_a_run_resumed_inside_an_interval_ends_its_epoch_at_the_same_validation() -> None:
    training = Training(done=6)

    assert len([training.train(batch) for batch in training.intervals]) == 2


def test_batches_fetched_but_not_trained_on_are_handed_out_again() -> None:
    training = Training()
    assert numbers(islice(iter(training.intervals), 3)) == [0, 1, 2]

    assert [training.train(batch) for batch in training.intervals] == [0, 1, 2, 3]
    assert [training.train(batch) for batch in training.intervals] == [4, 5, 6, 7]


def test_starting_a_pass_reads_nothing_yet() -> None:
    training = Training()
    iter(training.intervals)

    assert numbers(islice(iter(training.intervals), 1)) == [0]
