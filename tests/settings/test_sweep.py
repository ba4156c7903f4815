import math
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.sweep import LensSources, PrismFolder, SweepSettings
from tests.settings.documentation import unexplained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copy_threshold": 0.0}, r"--sweep.copy_threshold must be above 0 and at most 1 \(got 0.0\)"),
        ({"copy_threshold": 1.01}, r"at most 1 \(got 1.01\)"),
        ({"copy_threshold": math.nan}, r"at most 1 \(got nan\)"),
        ({"copy_margin": -0.1}, r"--sweep.copy_margin must be at least 0 and below 1 \(got -0.1\)"),
        ({"copy_margin": 1.0}, r"below 1 \(got 1.0\)"),
        ({"copy_margin": math.nan}, r"below 1 \(got nan\)"),
    ],
)
def test_a_copy_threshold_or_margin_that_is_no_probability_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SweepSettings(**options)


def test_the_bounds_themselves_are_taken_and_the_defaults_are_the_specified_ones() -> None:
    """docs/method.md §5.2."""
    SweepSettings(copy_threshold=1.0, copy_margin=0.0)
    assert (SweepSettings().copy_threshold, SweepSettings().copy_margin) == (0.95, 0.10)


@pytest.mark.parametrize("kind", [SweepSettings, LensSources, PrismFolder])
def test_every_option_is_explained(kind: type) -> None:
    assert unexplained(kind) == set()
