from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.sweep import SweepSettings
from logos_pl.sweeps.copy_collapse import CopyRule
from logos_pl.sweeps.writer import SweepDestination, SweepWriter


def test_what_makes_a_copy_is_what_the_settings_say() -> None:
    bounds = SweepSettings(copy_threshold=1.0, copy_margin=0.0)
    assert SweepWriter(bounds, SweepDestination(), "logos-pl predict").copy_rule == CopyRule(1.0, 0.0)
    assert SweepWriter(SweepSettings(), SweepDestination(), "logos-pl predict").copy_rule == CopyRule(0.95, 0.10)


def test_a_sweep_does_not_write_into_a_lens(tmp_path: Path) -> None:
    """A lens's folder with other files in it is neither replaced by a fit nor published."""
    (tmp_path / "provenance.json").touch()
    destination = SweepDestination()
    destination.resolve(tmp_path, str(tmp_path), ["tiny"])
    with pytest.raises(InputError, match=r"holds a lens: choose another --sweep\.out_dir"):
        destination.open()


def finished(folder: Path, settings: SweepSettings, can_open: bool = True) -> list[str]:
    """The addresses that a browser is asked for at the end of a sweep whose page is in the folder."""
    asked: list[str] = []

    def opener(address: str) -> bool:
        asked.append(address)
        return can_open

    writer: Any = SweepWriter(settings, SweepDestination(), "logos-pl predict", opener)
    writer._lines, writer._data = [], SimpleNamespace(num_prompts=1)
    writer._files = SimpleNamespace(
        folder=folder, finish=lambda: [("page #1.html", "page")], report=None, preference=str, lenses=(),
        page=folder / "page #1.html",
    )  # fmt: skip
    writer.on_predict_end(None, None)
    return asked


def test_the_page_is_opened_at_the_end_if_the_user_wants_it(tmp_path: Path) -> None:
    assert finished(tmp_path, SweepSettings()) == []
    assert finished(tmp_path, SweepSettings(open=True)) == [f"{tmp_path.as_uri()}/page%20%231.html"]


def test_without_a_browser_the_user_is_told_what_to_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path, SweepSettings(open=True), can_open=False)
    assert "No browser could be started: open " in capsys.readouterr().out
    finished(tmp_path, SweepSettings(open=True))
    assert "No browser" not in capsys.readouterr().out
