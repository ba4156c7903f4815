import io
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from logos_pl.data.packed_text import TextBatch
from logos_pl.fit.module import StepReading, TuningModule
from logos_pl.fit.progress import FitProgress
from logos_pl.io.progress import Display
from logos_pl.io.terminal import Console
from tests.tiny import resolved


class Trainer:
    """Three steps of two micro-batches of 4 × 100 tokens, logging into a list."""

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []
        self.logger = SimpleNamespace(log_metrics=lambda scalars, step: self.logged.append((scalars, step)))
        self.global_step, self.max_steps, self.world_size, self.accumulate_grad_batches = 0, 3, 2, 2
        self.optimizers = [SimpleNamespace(param_groups=[{"lr": 0.5}])]
        self.datamodule = SimpleNamespace(settings=SimpleNamespace(val_seqs=16))


def shown_in_a_file(every_n_steps: int = 1, seconds: float = 0.0) -> FitProgress:
    """Progress on a display without terminal, whose clock shows these seconds more each time."""
    now = iter(range(1_000_000))
    display = Display(clock=lambda: next(now) * seconds, threaded=False)
    display.console = Console(file=io.StringIO(), soft_wrap=True)
    return FitProgress(every_n_steps=every_n_steps, display=display)


def printed(progress: FitProgress) -> list[str]:
    return progress.display.console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def fit(
    progress: FitProgress, trainer: Any, monkeypatch: pytest.MonkeyPatch, readings: list[StepReading] | None = None
) -> None:
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr("logos_pl.fit.progress.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    module = TuningModule(resolved(model_id="any"))
    module.reading = StepReading(torch.tensor(1.5), torch.log(torch.tensor([2.0, 8.0])), [1, 2])
    batch = TextBatch(torch.zeros(4, 100), torch.zeros(4, 3), {})
    progress.on_train_start(trainer, module)
    for index in range(6):
        progress.on_train_batch_start(trainer, module, batch, index)
        trainer.optimizers[0].param_groups[0]["lr"] += index % 2  # the schedule moves on within the step
        trainer.global_step += index % 2
        module.reading = module.reading if readings is None else readings[index]
        progress.on_train_batch_end(trainer, module, None, batch, index)


def test_rate_and_kl_are_those_of_the_steps_read(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, trainer = shown_in_a_file(), Trainer()
    fit(progress, trainer, monkeypatch)

    assert [step for _, step in trainer.logged] == [1, 2, 3]
    scalars = trainer.logged[0][0]
    assert scalars["train/kl_from_final_bits"] == pytest.approx(2.0)  # mean of one and three bits
    assert scalars["train/cross_entropy_nats"] == 1.5
    assert [read["train/lr"] for read, _ in trainer.logged] == [0.5, 1.5, 2.5]
    assert scalars["train/tokens_per_second"] == pytest.approx(
        2 * 2 * 400 / 2
    )  # two processes, two batches, two seconds
    assert scalars["memory/process_gib"] > 0


def test_every_row_is_logged_as_the_mean_over_the_micro_batches_that_trained_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Six micro-batches of two of three rows; the last step's reading covers the last two of them only."""
    rows = [[1, 2], [1, 3], [2, 3], [1, 2], [1, 3], [1, 2]]
    bits = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0], [11.0, 13.0]]
    readings = [StepReading(torch.tensor(float(k)), math.log(2) * torch.tensor(bits[k]), rows[k]) for k in range(6)]
    progress, trainer = shown_in_a_file(every_n_steps=2), Trainer()
    fit(progress, trainer, monkeypatch, readings)

    (first, _), (last, _) = trainer.logged
    by_row = {name: value for name, value in first.items() if name.startswith("train_kl_from_final_bits/")}
    wanted = {"row_01": (1 + 3 + 7) / 3, "row_02": (2 + 5 + 8) / 3, "row_03": (4 + 6) / 2}
    assert by_row == pytest.approx({f"train_kl_from_final_bits/{row}": value for row, value in wanted.items()})
    assert first["train/kl_from_final_bits"] == pytest.approx(4.5)
    assert first["train/cross_entropy_nats"] == pytest.approx(1.5)
    assert last["train_kl_from_final_bits/row_01"] == pytest.approx(10)
    assert last["train/kl_from_final_bits"] == pytest.approx(43 / 4)


def test_where_there_is_no_terminal_the_last_step_gets_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = shown_in_a_file()
    fit(progress, Trainer(), monkeypatch)

    (line,) = printed(progress)
    assert line.startswith("step 3/3 · KL 2.000 bits · ")
    assert line.endswith("0:00 left")


def test_slow_steps_are_read_and_said_as_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the display's clock takes 4 s, every look of the callback's own 2 s."""
    progress, trainer = shown_in_a_file(every_n_steps=1000, seconds=4.0), Trainer()
    fit(progress, trainer, monkeypatch)
    assert {line[:8] for line in printed(progress)} == {"step 1/3", "step 2/3", "step 3/3"}
    assert [step for _, step in trainer.logged] == [1, 2, 3]


def test_steps_of_ten_seconds_are_read_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logos_pl.fit.progress.SECONDS_BETWEEN_LINES", 2.0)
    progress, trainer = shown_in_a_file(every_n_steps=1000, seconds=1.0), Trainer()
    fit(progress, trainer, monkeypatch)
    assert [step for _, step in trainer.logged] == [1, 2, 3]


def test_other_processes_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = shown_in_a_file(seconds=4.0)
    progress.disable()
    fit(progress, Trainer(), monkeypatch)

    assert printed(progress) == []


def test_a_validation_counts_sequences_of_all_processes_and_then_says_what_it_found() -> None:
    progress, trainer = shown_in_a_file(seconds=12.0), Trainer()
    module = TuningModule(resolved(model_id="any"))
    module.lm = SimpleNamespace(num_blocks=4)  # type: ignore[assignment]
    kl = torch.tensor([5.0, 4.0, 3.0, 2.0, 0.0])
    module.validation = {"norm": {"kl_from_final_bits": kl}, "tuned": {"kl_from_final_bits": kl / 2}}
    progress.on_validation_start(trainer, module)
    for index in range(2):
        progress.on_validation_batch_end(
            trainer, module, None, TextBatch(torch.zeros(4, 9), torch.zeros(4, 3), {}), index
        )
    progress.on_validation_end(trainer, module)
    *counted, found = printed(progress)
    assert counted[-1].startswith("validation: 16 of 16 sequences · ")
    assert found == (
        "step 0 · held-out KL in bits, norm → tuned: 25% 4.000 → 2.000 · 50% 3.000 → 1.500 · 75% 2.000 → 1.000"
    )
