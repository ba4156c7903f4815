from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer

from logos_pl.fit.depth_metrics import PERCENTILE_KL
from logos_pl.fit.stopping import PercentileStopping
from logos_pl.settings.fit import StoppingSettings


def trainer_reading(kl_bits: float, step: int = 0) -> Trainer:
    """As much of a trainer as early stopping looks at after a validation."""
    return SimpleNamespace(
        callback_metrics={PERCENTILE_KL: torch.tensor(kl_bits)},
        global_step=step,
        fast_dev_run=False,
        sanity_checking=False,
        should_stop=False,
        current_epoch=0,
        state=SimpleNamespace(fn="fit"),
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
    )


def validations(stopping: PercentileStopping, readings: list[float]) -> int:
    """How many validations pass until the fit is told to stop."""
    for count, reading in enumerate(readings, start=1):
        trainer = trainer_reading(reading)
        stopping.on_validation_end(trainer, None)
        if trainer.should_stop:
            return count
    return 0


def test_three_validations_without_improvement_stop_the_fit() -> None:
    assert validations(PercentileStopping(StoppingSettings()), [2.0, 1.0, 1.1, 1.0, 1.2, 0.5]) == 5


def test_an_improvement_starts_the_count_anew() -> None:
    assert validations(PercentileStopping(StoppingSettings()), [2.0, 2.1, 2.1, 1.9, 2.0, 2.0]) == 0


def test_an_improvement_below_the_margin_does_not_count() -> None:
    assert validations(PercentileStopping(StoppingSettings(patience=2, min_delta_bits=0.1)), [2.0, 1.95, 1.91]) == 3


def test_a_figure_that_is_not_finite_stops_at_once() -> None:
    assert validations(PercentileStopping(StoppingSettings()), [float("nan")]) == 1


@pytest.mark.parametrize(("readings", "stops"), [([1.0, 1.0, 1.0, 1.0], True), ([1.0, 1.0, 1.0], False)])
def test_a_resumed_run_remembers_whether_it_had_stopped(readings: list[float], stops: bool) -> None:
    before, after = PercentileStopping(StoppingSettings()), PercentileStopping(StoppingSettings())
    validations(before, readings)
    after.load_state_dict(before.state_dict())
    trainer = trainer_reading(1.0)

    after.on_train_start(trainer, None)

    assert trainer.should_stop is stops


def test_the_start_and_the_best_validation_after_it_are_known_also_after_a_resumption() -> None:
    stopping = PercentileStopping(StoppingSettings())
    assert (stopping.start, stopping.best_step) == (None, None)
    for step, reading in ((0, 2.0), (4, 2.5), (8, 2.25), (12, 2.375)):
        stopping.on_validation_end(trainer_reading(reading, step), None)
    resumed = PercentileStopping(StoppingSettings())
    resumed.load_state_dict(stopping.state_dict())
    for one in (stopping, resumed):
        assert (one.start, one.best_step) == ((0, 2.0), (8, 2.25))
