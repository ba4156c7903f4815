import math
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.lens import LensSettings, OptimSettings, TuningSettings
from tests.settings.documentation import unexplained

OF_THE_LENS: list[tuple[dict[str, Any], str]] = [
    ({"rank": -1}, "--model.rank must be at least 0 (got -1)."),
    ({"layers_per_step": 0}, "--model.layers_per_step must be at least 1 (got 0)."),
    ({"layers_per_step": -3}, "--model.layers_per_step must be at least 1 (got -3)."),
]
OF_TRAINING: list[tuple[dict[str, Any], str]] = [
    ({"lr": math.nan}, "--model.lr must be above 0 (got nan)."),
    ({"lr": 0.0}, "--model.lr must be above 0 (got 0.0)."),
    ({"lr": math.inf}, "--model.lr must be above 0 (got inf)."),
    ({"betas": (0.9, 1.0)}, "--model.betas must be at least 0 and below 1 (got 1.0)."),
    ({"betas": (-0.1, 0.9)}, "--model.betas must be at least 0 and below 1 (got -0.1)."),
    ({"l2": -5.0}, "--model.l2 must be at least 0 (got -5.0)."),
    ({"smoothness": math.nan}, "--model.smoothness must be at least 0 (got nan)."),
    ({"weight_decay": -1.0}, "--model.weight_decay must be at least 0 (got -1.0)."),
]


@pytest.mark.parametrize(("setting", "message"), OF_TRAINING)
def test_numbers_that_no_optimiser_can_use_are_refused(setting: dict[str, Any], message: str) -> None:
    for make in (OptimSettings, lambda **given: TuningSettings(model_id="any", **given)):
        with pytest.raises(InputError) as caught:
            make(**setting)
        assert str(caught.value) == message


@pytest.mark.parametrize(("setting", "message"), OF_THE_LENS)
def test_numbers_that_make_no_lens_are_refused(setting: dict[str, Any], message: str) -> None:
    for make in (LensSettings, lambda **given: TuningSettings(model_id="any", **given)):
        with pytest.raises(InputError) as caught:
            make(**setting)
        assert str(caught.value) == message


def test_the_options_of_a_fit_have_the_bounds_of_all_their_parts() -> None:
    with pytest.raises(InputError, match=r"--model\.loss_block_mib "):
        TuningSettings(model_id="any", loss_block_mib=0)


def test_the_bounds_themselves_are_taken() -> None:
    TuningSettings(
        model_id="any", rank=0, layers_per_step=1, lr=1e-30, betas=(0.0, 0.0), weight_decay=0, l2=0, smoothness=0
    )
    TuningSettings(model_id="any", layers_per_step="all")


def test_what_is_left_out_is_left_to_the_schedule_or_the_specified_one() -> None:
    """docs/method.md §2.1 and AdamW's own."""
    settings = TuningSettings(model_id="any")
    left = {"rank", "init", "layers_per_step", "lr", "anneal", "l2", "smoothness"}
    assert {name for name in left if getattr(settings, name) == "auto"} == left
    assert (settings.betas, settings.weight_decay) == ((0.9, 0.999), 1e-4)
    assert settings.temperature
    assert settings.bias_only


@pytest.mark.parametrize("kind", [LensSettings, OptimSettings, TuningSettings])
def test_every_option_is_explained(kind: type) -> None:
    assert unexplained(kind) == set()
