import re
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.jacobian import JacobianSettings
from tests.settings.documentation import unexplained


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sequences": 1}, "--jacobian.sequences must be at least 2 and at most 10,000,000 (got 1)."),
        ({"sequences": 10**7 + 1}, "--jacobian.sequences must be at least 2"),
        ({"probes": 0}, "--jacobian.probes must be at least 1 (got 0)."),
        ({"skip_first": -1}, "--jacobian.skip_first must be at least 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        JacobianSettings(**setting)


def test_the_bounds_themselves_are_taken() -> None:
    JacobianSettings(sequences=2, probes=1, skip_first=0)
    JacobianSettings(sequences=10**7, probes="all")


def test_every_option_is_explained() -> None:
    assert unexplained(JacobianSettings) == set()
