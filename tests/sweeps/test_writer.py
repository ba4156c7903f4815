from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.sweep import SweepSettings
from logos_pl.sweeps.copy_collapse import CopyRule
from logos_pl.sweeps.writer import SweepDestination, SweepWriter


def test_what_makes_a_copy_is_what_the_settings_say() -> None:
    bounds = SweepSettings(copy_threshold=1.0, copy_margin=0.0)
    assert SweepWriter(bounds, SweepDestination()).copy_rule == CopyRule(1.0, 0.0)
    assert SweepWriter(SweepSettings(), SweepDestination()).copy_rule == CopyRule(0.95, 0.10)


def test_a_sweep_does_not_write_into_a_lens(tmp_path: Path) -> None:
    """A lens's folder with other files in it is neither replaced by a fit nor published."""
    (tmp_path / "provenance.json").touch()
    destination = SweepDestination()
    destination.resolve(tmp_path, str(tmp_path), ["tiny"])
    with pytest.raises(InputError, match=r"holds a lens: choose another --sweep\.out_dir"):
        destination.open()
