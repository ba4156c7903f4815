from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.modules.lens_source import LensSource


def test_a_folder_is_given_back_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").touch()
    assert LensSource(str(tmp_path)).folder("org/tiny") == tmp_path
    with pytest.raises(InputError, match="There is no artifact at"):
        LensSource(str(tmp_path / "nowhere")).folder("org/tiny")


def test_nothing_is_named_by_default() -> None:
    assert (LensSource().source, LensSource().revision) == (None, None)
