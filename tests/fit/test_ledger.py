from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from logos_pl.data.packed_text import TextBatch
from logos_pl.errors import InputError
from logos_pl.fit.ledger import Ledger


class FakeTrainer:
    """Two micro-batches per step; a reduction over processes that all did the same."""

    def __init__(self, processes: int = 2, *, first: bool = True) -> None:
        self.global_step = 0
        self.accumulate_grad_batches = 2
        self.is_global_zero = first
        self.advanced: list[Any] = []
        text = SimpleNamespace(seq_len=10, positions_per_seq=3)
        self.datamodule = SimpleNamespace(advance=lambda *given: self.advanced.append(given), settings=text)
        self.strategy = SimpleNamespace(reduce=lambda tensor, reduce_op: processes * tensor, root_device="cpu")


def ledger_of(trainer: FakeTrainer) -> Ledger:
    ledger = Ledger()
    ledger.setup(trainer, None, "fit")
    return ledger


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
    trainer = FakeTrainer()
    ledger = ledger_of(trainer)
    train(ledger, trainer, [(4, 4), (4, 3), (4, 4)], rows=[5, 7, 6])

    counts = ledger.counts()

    assert counts.steps == 3
    assert counts.sequences == 2 * 23
    assert counts.tokens == 2 * 230
    assert counts.positions == 2 * 69
    assert (counts.fewest_sequences_per_step, counts.most_sequences_per_step) == (2 * 7, 2 * 8)
    assert (counts.fewest_rows_per_step, counts.most_rows_per_step) == (5, 7)


def test_every_batch_moves_the_data_cursor() -> None:
    trainer = FakeTrainer()
    train(ledger_of(trainer), trainer, [(4, 3)], rows=[5])

    assert trainer.advanced == [({"lane": 4}, False), ({"lane": 3}, True)]


def test_counting_goes_on_from_a_checkpoint_in_the_middle_of_a_step() -> None:
    trainer, another = FakeTrainer(1), FakeTrainer(1)
    whole, first, second = ledger_of(another), ledger_of(trainer), ledger_of(trainer)
    train(whole, another, [(4, 4), (4, 2)], rows=[5, 6])
    train(first, trainer, [(4, 4)], rows=[5])
    first.on_train_batch_end(trainer, None, {"rows": 6}, batch(4), 0)

    second.load_state_dict(first.state_dict())
    trainer.global_step += 1
    second.on_train_batch_end(trainer, None, {"rows": 6}, batch(2), 1)

    assert second.state_dict() == whole.state_dict()


def test_an_interrupted_step_is_taken_back_from_all_counts() -> None:
    trainer, another = FakeTrainer(1), FakeTrainer(1)
    whole, stopped = ledger_of(another), ledger_of(trainer)
    train(whole, another, [(4, 4), (4, 3)], rows=[5, 6])
    train(stopped, trainer, [(4, 4), (4, 3)], rows=[5, 6])
    stopped.on_train_batch_end(trainer, None, {"rows": 6}, batch(4), 0)
    assert stopped.state_dict() != whole.state_dict()

    stopped.rewind()
    assert stopped.state_dict() == whole.state_dict()
    batches = {"ready": 5, "started": 5, "processed": 5, "completed": 4}
    progress = {"current": dict(batches), "total": {name: 20 + count for name, count in batches.items()}}
    checkpoint = {"loops": {"fit_loop": {"epoch_loop.batch_progress": progress}}}
    stopped.on_save_checkpoint(trainer, None, checkpoint)
    assert progress["current"] == dict.fromkeys(batches, 4)
    assert progress["total"] == dict.fromkeys(batches, 24)


def test_what_two_processes_have_counted_is_carried_on_once_by_any_number() -> None:
    trainer = FakeTrainer(2)
    two = ledger_of(trainer)
    train(two, trainer, [(4, 3)], rows=[5])  # each of the two: 7 sequences in this step
    state = two.state_dict()

    one, other = ledger_of(FakeTrainer(1)), ledger_of(FakeTrainer(1, first=False))
    for resumed in (one, other):
        resumed.load_state_dict(state)
        resumed.trainer.global_step = 1
        train(resumed, resumed.trainer, [(8, 8)], rows=[6])

    assert one.counts()[:6] == (2, 14 + 16, 10 * 30, 3 * 30, 14, 16)
    assert other.state_dict()["totals"] == {"steps": 2, "sequences": 16, "tokens": 160, "positions": 48}


@pytest.mark.parametrize(("before", "now", "ready", "wanted"), [(1, 4, 3, 12), (4, 2, 12, 6), (2, 2, 5, 5)])
def test_micro_batches_since_the_validation_are_counted_in_those_of_this_run(
    before: int, now: int, ready: int, wanted: int
) -> None:
    trainer = FakeTrainer()
    trainer.accumulate_grad_batches = now
    ledger = ledger_of(trainer)
    done = {"ready": ready, "started": ready, "processed": ready, "completed": ready - 1}
    checkpoint = checkpoint_of(ledger, before, done)

    ledger.on_load_checkpoint(trainer, None, checkpoint)

    assert done == {"ready": wanted, "started": wanted, "processed": wanted, "completed": wanted - 1}


def test_another_number_of_processes_cannot_go_on_inside_a_step() -> None:
    trainer = FakeTrainer()
    ledger = ledger_of(trainer)
    with pytest.raises(InputError, match=r"inside an optimiser step: resume it with the same --trainer\.devices"):
        ledger.on_load_checkpoint(trainer, None, checkpoint_of(ledger, 4, {"ready": 6, "completed": 6}))


def checkpoint_of(ledger: Ledger, grad_accum: int, done: dict[str, int]) -> dict[str, Any]:
    """The parts of a checkpoint that the ledger looks at."""
    return {
        "callbacks": {ledger.state_key: {"grad_accum": grad_accum}},
        "loops": {"fit_loop": {"epoch_loop.batch_progress": {"current": done}}},
    }


ACCOUNT = {"steps": 1, "sequences": 16, "tokens": 160, "positions": 48}


@pytest.mark.parametrize(
    "damage",
    [
        {"totals": 3},
        {"totals": {}},
        {"totals": ACCOUNT | {"positions": True}},
        {"totals": ACCOUNT | {"positions": 32}},
        {"totals": ACCOUNT | {"tokens": 161}},
        {"totals": ACCOUNT | {"sequences": 17, "tokens": 170, "positions": 51}},
        {"totals": ACCOUNT | {"steps": 2}},
        {"totals": ACCOUNT | {"steps": -1}},
        {"totals": ACCOUNT | {"steps": 10**400}},
        {"sequences_in_step": 1},
        {"sequences_in_step": 0.0},
        {"sequences_per_step": [None]},
        {"sequences_per_step": []},
        {"sequences_per_step": [16.0, 16.0]},
        {"rows_per_step": 1},
        {"rows_per_step": [7, float("nan")]},
    ],
)
def test_an_account_that_no_fit_wrote_is_refused(damage: dict[str, Any]) -> None:
    trainer = FakeTrainer()
    ledger = ledger_of(trainer)
    train(ledger, trainer, [(4, 4)], [7])
    state = ledger.state_dict()
    assert state["totals"] == ACCOUNT
    for damaged, outcome in (
        (state, nullcontext()),
        (state | damage, pytest.raises(InputError, match="record of the text trained on is invalid")),
    ):
        resumed = ledger_of(trainer)
        with outcome:
            resumed.load_state_dict(damaged)
            resumed.on_train_start(trainer, None)
