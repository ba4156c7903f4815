"""A fit goes on while held-out KL improves by more than its noise, and ends when it does not."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from logos_pl.fit.depth_metrics import PERCENTILE_KL
from logos_pl.fit.module import TuningModule
from logos_pl.fit.stopping import PercentileStopping, gain_bits
from logos_pl.settings.fit import StoppingSettings
from logos_pl.settings.lens import TuningSettings

SEQUENCES = 32


def trainer_reading(kl_bits: float, step: int = 0) -> Trainer:
    """As much of a trainer as early stopping looks at after a validation."""
    return SimpleNamespace(
        callback_metrics={PERCENTILE_KL: torch.tensor(kl_bits)},
        global_step=step,
        should_stop=False,
        is_global_zero=True,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
    )


def validated(stopping: PercentileStopping, kl_bits: Tensor, step: int = 0) -> bool:
    """Whether the fit is told to stop by a validation with so much KL for each sequence."""
    module = TuningModule(TuningSettings(model_id="demo"))
    module.sequence_kl_bits = kl_bits
    trainer = trainer_reading(float(kl_bits.mean()), step)
    stopping.on_validation_end(trainer, module)
    return trainer.should_stop


def texts(sd_bits: float = 0.5) -> Tensor:
    """How hard some sequences are."""
    return 2 + sd_bits * torch.randn(SEQUENCES, generator=torch.Generator().manual_seed(1))


def ends_after(means: list[float], noise_bits: float, patience: int = 3, seed: int = 0) -> int:
    """How many validations pass until the fit ends; 0 if it does not."""
    generator = torch.Generator().manual_seed(seed)
    stopping, hard = PercentileStopping(StoppingSettings(patience=patience)), texts()
    for count, mean in enumerate(means, start=1):
        noise = noise_bits * torch.randn(SEQUENCES, generator=generator)
        if validated(stopping, hard + mean + noise, count):
            return count
    return 0


def exact_gain_interval(gains: list[float]) -> tuple[float, float]:
    """2.5% and 97.5% quantiles of the mean over all resamples, in float64: of 6 values, 46,656."""
    means = sorted(sum(drawn) / len(gains) for drawn in itertools.product(gains, repeat=len(gains)))
    return means[int(0.025 * len(means))], means[int(0.975 * len(means))]


@pytest.mark.parametrize("shift", [-0.02, 0.0, 0.004, 0.05])
def test_the_interval_is_that_of_all_resamples_of_the_paired_gains(shift: float) -> None:
    before = torch.tensor([3.0, 1.0, 2.0, 5.0, 0.5, 1.5], dtype=torch.float64)
    gains = [value + shift for value in (0.03, -0.02, 0.01, 0.05, -0.01, 0.02)]
    found = gain_bits(before, before - torch.tensor(gains, dtype=torch.float64))
    low, high = exact_gain_interval(gains)
    assert found.estimate == pytest.approx(sum(gains) / 6, abs=1e-12)
    assert found.low == pytest.approx(low, abs=2e-3)  # of 2,000 resamples; the interval is 0.04 wide
    assert found.high == pytest.approx(high, abs=2e-3)


def test_that_texts_differ_is_no_noise() -> None:
    assert gain_bits(texts(), texts() - 0.001).low == pytest.approx(0.001, abs=1e-6)


def test_figures_of_other_sequences_are_not_compared() -> None:
    with pytest.raises(ValueError, match="3 sequences cannot be paired with 4"):
        gain_bits(torch.ones(4), torch.ones(3))


def test_a_fit_that_no_longer_improves_ends_after_three_validations() -> None:
    assert ends_after([1.0, *[0.5] * 10], noise_bits=0.0) == 5
    assert [ends_after([1.0, *[0.5] * 20], noise_bits=0.01, seed=seed) for seed in range(8)].count(0) == 0


def test_one_that_improves_by_more_than_its_noise_goes_on() -> None:
    assert ends_after([1.0 - 0.01 * t for t in range(30)], noise_bits=0.01) == 0


def test_gains_below_the_noise_add_up_until_they_are_seen() -> None:
    # Each gain is that of the interval's half-width, 1.96 · 0.01 · sqrt(2 / 32) = 0.005 bits.
    assert ends_after([1.0 - 0.005 * t for t in range(40)], noise_bits=0.01) == 0
    assert ends_after([1.0 - 0.0001 * t for t in range(40)], noise_bits=0.01) > 0


def test_a_curve_that_flattens_ends_where_its_gains_fall_below_the_noise() -> None:
    """KL = 1 + 1/t gains about 3/t² bits in three validations, which at t = 25 is the interval's half-width, 0.005."""
    ends = [ends_after([1 + 1 / t for t in range(1, 200)], noise_bits=0.01, seed=seed) for seed in range(8)]
    assert all(12 <= end <= 60 for end in ends), ends


def test_worse_validations_end_it_and_an_improvement_starts_the_count_anew() -> None:
    assert ends_after([2.0, 2.1, 2.1, 2.1], noise_bits=0.0) == 4
    assert ends_after([2.0, 2.1, 2.1, 1.9, 2.0, 2.0], noise_bits=0.0) == 0
    assert ends_after([2.0, 2.1], noise_bits=0.0, patience=1) == 2


def test_the_end_is_explained_with_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    stopping = PercentileStopping(StoppingSettings(patience=2))
    for step, mean in ((0, 1.0), (100, 0.5), (200, 0.5), (300, 0.501)):
        validated(stopping, texts() + mean, step)
    assert capsys.readouterr().out == "", "the progress says first what the validation found"
    stopping.on_train_end(trainer_reading(1.5), TuningModule(TuningSettings(model_id="demo")))
    assert capsys.readouterr().out.split("\n")[0] == (
        "stopped: in 2 validations since step 100 the held-out KL has not improved beyond its noise (by -0.0010 bits, "
        "95% interval -0.0010 to -0.0010)"
    )


@pytest.mark.parametrize(("waits", "stops"), [(3, True), (2, False)])
def test_a_resumed_run_remembers_whether_it_had_stopped_and_what_it_compares_with(waits: int, stops: bool) -> None:
    before, after = PercentileStopping(StoppingSettings()), PercentileStopping(StoppingSettings())
    for step in range(1 + waits):
        validated(before, texts(), step)
    after.load_state_dict(before.state_dict())
    trainer = trainer_reading(1.0)
    after.on_train_start(trainer, TuningModule(TuningSettings(model_id="demo")))

    assert trainer.should_stop is stops
    assert before.mark is not None
    assert after.mark is not None
    assert after.mark.step == 0
    assert torch.equal(after.mark.kl_bits, before.mark.kl_bits)
    assert validated(after, texts(), 9) is True


def test_the_start_and_the_best_validation_after_it_are_known_also_after_a_resumption() -> None:
    stopping = PercentileStopping(StoppingSettings())
    assert (stopping.start, stopping.best_step) == (None, None)
    for step, reading in ((0, 2.0), (4, 2.5), (8, 2.25), (12, 2.375)):
        validated(stopping, torch.full((4,), reading), step)
    resumed = PercentileStopping(StoppingSettings())
    resumed.load_state_dict(stopping.state_dict())
    for one in (stopping, resumed):
        assert (one.start, one.best_step) == ((0, 2.0), (8, 2.25))
