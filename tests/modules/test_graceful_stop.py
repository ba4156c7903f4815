"""When a fit that was told to stop does so, what it saves, and who listens afterwards."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logos_pl.errors import InterruptedRunError
from logos_pl.modules.graceful_stop import SIGNALS, GracefulStop


class FakeTrainer:
    """Two micro-batches a step; other processes of the run have received a signal where `others` says so."""

    accumulate_grad_batches = 2

    def __init__(self, others: bool = False) -> None:
        self.global_step, self.is_last_batch, self.is_global_zero = 5, False, True
        self.ckpt_path: str | None = None
        self.saved: list[tuple[Path, bool]] = []
        self.strategy = self
        self.others = others

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        assert not all, "one process that was told to stop is enough"
        return decision or self.others

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        self.saved.append((path, weights_only))


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[int, Any]]:
    """What listened before the test, and does again after it."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def rewound() -> list[bool]:
    """One entry for each time that counts and place in the text were put back."""
    return []


@pytest.fixture
def stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewound: list[bool]) -> GracefulStop:
    """The callback of a fit that is under way."""
    monkeypatch.chdir(tmp_path)
    callback = GracefulStop(tmp_path / "run" / "last.ckpt", rewind=lambda: rewound.append(True))
    callback.on_train_start(FakeTrainer(), None)
    return callback


def batch_end(stop: GracefulStop, trainer: FakeTrainer, batch_idx: int) -> None:
    stop.on_train_batch_end(trainer, None, None, None, batch_idx)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("batch", "half_a_step"), [(2, True), (3, False)])
def test_a_signal_ends_the_fit_after_the_micro_batch_with_a_checkpoint_to_resume(
    number: signal.Signals, batch: int, half_a_step: bool, stop: GracefulStop, rewound: list[bool]
) -> None:
    trainer = FakeTrainer()
    os.kill(os.getpid(), number)
    with pytest.raises(InterruptedRunError) as caught:
        batch_end(stop, trainer, batch)
    assert rewound == [True] * half_a_step, "the first half of a step is read again"
    assert trainer.saved == [(stop.checkpoint, False)], "with the optimiser and the place in the text"
    assert caught.value.exit_status == 128 + number
    assert caught.value.everywhere, "one process says it for all"
    assert str(caught.value) == (
        f"Stopped by {number.name} after step 5; go on with --ckpt_path last (checkpoint: run/last.ckpt)."
    )


def test_without_a_signal_nothing_is_saved_and_the_fit_goes_on(stop: GracefulStop) -> None:
    trainer = FakeTrainer()
    for index in range(6):
        batch_end(stop, trainer, index)
    stop.on_train_epoch_start(trainer, None)
    assert trainer.saved == []


def test_after_the_last_batch_before_a_validation_the_stop_waits_until_it_begins(
    stop: GracefulStop, rewound: list[bool]
) -> None:
    trainer = FakeTrainer()
    trainer.is_last_batch = True
    os.kill(os.getpid(), signal.SIGTERM)
    batch_end(stop, trainer, 3)
    assert trainer.saved == []
    with pytest.raises(InterruptedRunError, match="after step 5"):
        stop.on_validation_start(trainer, None)
    assert trainer.saved == [(stop.checkpoint, False)]
    assert rewound == []


def test_a_validation_is_stopped_after_its_micro_batch(stop: GracefulStop) -> None:
    trainer = FakeTrainer()
    stop.on_validation_start(trainer, None)
    stop.on_validation_batch_end(trainer, None, None, None, 0, 0)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(InterruptedRunError, match="after step 5; go on with --ckpt_path last"):
        stop.on_validation_batch_end(trainer, None, None, None, 1, 0)
    assert trainer.saved == [(stop.checkpoint, False)]


def test_a_signal_while_a_validation_is_recorded_ends_the_fit_before_the_next_step(stop: GracefulStop) -> None:
    trainer = FakeTrainer()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(InterruptedRunError, match="after step 5"):
        stop.on_train_epoch_start(trainer, None)
    assert trainer.saved == [], "the validation has saved it"


@pytest.mark.parametrize(
    ("resumed", "wanted"),
    [
        (None, "Stopped by SIGINT during the closed-form start; nothing was saved, start again."),
        (
            "last.ckpt",
            "Stopped by SIGINT during the closed-form start; go on with --ckpt_path last (checkpoint: run/last.ckpt).",
        ),
    ],
)
def test_outside_the_loop_nothing_is_saved(resumed: str | None, wanted: str, stop: GracefulStop) -> None:
    trainer = FakeTrainer()
    trainer.ckpt_path = resumed
    stop.check(trainer, "the closed-form start")
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(InterruptedRunError) as caught:
        stop.check(trainer, "the closed-form start")
    assert str(caught.value) == wanted
    assert (caught.value.exit_status, trainer.saved) == (130, [])


@pytest.mark.parametrize("first", [True, False])
def test_the_first_process_says_at_once_that_it_will_stop(
    first: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    callback, trainer = GracefulStop(tmp_path / "last.ckpt", rewind=lambda: None), FakeTrainer()
    trainer.is_global_zero = first
    callback.on_train_start(trainer, None)
    os.kill(os.getpid(), signal.SIGTERM)
    said = "Stopping after this micro-batch; a second signal ends the run at once, without a checkpoint.\n"
    assert capfd.readouterr() == (said * first, "")


def test_a_fit_does_not_stop_before_its_first_step(stop: GracefulStop) -> None:
    trainer = FakeTrainer()
    trainer.global_step = 0
    os.kill(os.getpid(), signal.SIGTERM)
    stop.on_train_epoch_start(trainer, None)
    trainer.global_step = 1
    with pytest.raises(InterruptedRunError):
        batch_end(stop, trainer, 1)


def test_all_processes_stop_when_one_has_received_a_signal(stop: GracefulStop) -> None:
    trainer = FakeTrainer(others=True)
    with pytest.raises(InterruptedRunError, match=r"^Stopped by SIGTERM") as caught:
        batch_end(stop, trainer, 1)
    assert trainer.saved == [(stop.checkpoint, False)], "all of them save together"
    assert caught.value.exit_status == 128 + signal.SIGTERM


def test_a_second_signal_ends_the_process_at_once(stop: GracefulStop) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * 2


def test_signals_are_listened_for_from_the_start_of_training_to_its_end(
    handlers: dict[int, Any], tmp_path: Path
) -> None:
    callback = GracefulStop(tmp_path / "last.ckpt", rewind=lambda: None)
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers
    callback.on_train_start(FakeTrainer(), None)
    assert not {signal.getsignal(number) for number in SIGNALS} & set(handlers.values())
    callback.teardown(FakeTrainer(), None, "fit")
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    callback.teardown(FakeTrainer(), None, "fit")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, "handlers are given back once"
