import math
from pathlib import Path
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.sweep import SweepSettings
from logos_pl.sweeps.copy_collapse import CopyRule
from logos_pl.sweeps.writer import SweepDestination, SweepWriter


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
    bounds = SweepSettings(copy_threshold=1.0, copy_margin=0.0)
    assert SweepWriter(bounds, SweepDestination()).copy_rule == CopyRule(1.0, 0.0)
    assert SweepWriter(SweepSettings(), SweepDestination()).copy_rule == CopyRule(0.95, 0.10)


def test_a_sweep_does_not_write_into_a_lens(tmp_path: Path) -> None:
    """A lens's folder with other files in it is neither replaced by a fit nor published."""
    (tmp_path / "provenance.json").touch()
    destination = SweepDestination()
    destination.settle(tmp_path, str(tmp_path), ["tiny"])
    with pytest.raises(InputError, match=r"holds a lens: choose another --sweep\.out_dir"):
        destination.open()
