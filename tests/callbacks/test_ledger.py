from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch import Trainer

from logos_pl.callbacks.ledger import Ledger
from logos_pl.data.packed_text import TextBatch


class FakeTrainer:
    """Two micro-batches per step; a reduction over two processes that did the same."""

    def __init__(self) -> None:
        self.global_step = 0
        self.advanced: list[Any] = []
        self.datamodule = SimpleNamespace(advance=self.advanced.append)
        self.strategy = SimpleNamespace(reduce=lambda tensor, reduce_op: 2 * tensor, root_device="cpu")


def batch(sequences: int, tokens: int = 10, positions: int = 3) -> TextBatch:
    cursors: Any = {"lane": sequences}
    return TextBatch(torch.zeros(sequences, tokens), torch.zeros(sequences, positions), cursors)


def train(ledger: Ledger, trainer: FakeTrainer, sizes: list[tuple[int, int]], rows: list[int]) -> None:
    real: Trainer = trainer  # type: ignore[assignment]
    for (first, second), trained_rows in zip(sizes, rows, strict=True):
        for last, size in ((False, first), (True, second)):
            trainer.global_step += last
            ledger.on_train_batch_end(real, None, {"rows": trained_rows}, batch(size), 0)


def test_counts_are_of_what_was_trained_on_over_all_processes() -> None:
    ledger, trainer = Ledger(), FakeTrainer()
    train(ledger, trainer, [(4, 4), (4, 3), (4, 4)], rows=[5, 7, 6])

    counts = ledger.counts(trainer)

    assert counts.steps == 3
    assert counts.sequences == 2 * 23
    assert counts.tokens == 2 * 230
    assert counts.positions == 2 * 69
    assert (counts.fewest_sequences_per_step, counts.most_sequences_per_step) == (2 * 7, 2 * 8)
    assert (counts.fewest_rows_per_step, counts.most_rows_per_step) == (5, 7)


def test_every_batch_moves_the_data_cursor() -> None:
    ledger, trainer = Ledger(), FakeTrainer()
    train(ledger, trainer, [(4, 3)], rows=[5])

    assert trainer.advanced == [{"lane": 4}, {"lane": 3}]


def test_counting_goes_on_from_a_checkpoint_in_the_middle_of_a_step() -> None:
    whole, first, second = Ledger(), Ledger(), Ledger()
    trainer = FakeTrainer()
    train(whole, FakeTrainer(), [(4, 4), (4, 2)], rows=[5, 6])
    train(first, trainer, [(4, 4)], rows=[5])
    first.on_train_batch_end(trainer, None, {"rows": 6}, batch(4), 0)

    second.load_state_dict(first.state_dict())
    trainer.global_step += 1
    second.on_train_batch_end(trainer, None, {"rows": 6}, batch(2), 1)

    assert second.state_dict() == whole.state_dict()
