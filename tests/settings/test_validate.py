"""Options of a validation."""

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.validate import ValidateSettings


def test_a_folder_without_a_matrix_is_refused() -> None:
    assert ValidateSettings().matrix is None
    assert ValidateSettings(matrix="tuned", out_dir="mine").out_dir == "mine"
    with pytest.raises(InputError, match=r"--validate\.out_dir is the output folder of --validate\.matrix: give both"):
        ValidateSettings(out_dir="mine")
