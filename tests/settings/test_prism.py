import math
import re
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.prism import PrismSettings
from tests.settings.documentation import unexplained


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"positions": 0}, "--prism.positions must be at least 1 and at most 1,000,000,000,000,000 (got 0)."),
        ({"positions": 10**15 + 1}, "--prism.positions must be at least 1"),
        ({"rank": -1}, "--prism.rank must be at least 0 (got -1)."),
        ({"rank": 0}, "--prism.rank 0 would give the same output at every row: give 1 or more, or `full`."),
        ({"shrinkage": 1.0}, "--prism.shrinkage must be at least 0 and below 1 (got 1.0): give a share such as 0.001."),
        ({"shrinkage": -0.1}, "--prism.shrinkage must be at least 0 and below 1 (got -0.1)"),
        ({"shrinkage": math.nan}, "--prism.shrinkage must be at least 0 and below 1 (got nan)"),
    ],
)
def test_a_prism_that_cannot_be_fitted_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        PrismSettings(**setting)


def test_the_bounds_themselves_are_taken() -> None:
    PrismSettings(positions=1, rank=1, shrinkage=0.0)
    PrismSettings(positions=10**15, rank="full", shrinkage=0.999)


def test_every_option_is_explained() -> None:
    assert unexplained(PrismSettings) == set()
