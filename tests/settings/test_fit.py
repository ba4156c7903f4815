import re
from pathlib import Path
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.fit import ExportSettings, StoppingSettings
from tests.settings.documentation import unexplained


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"patience": 0}, "--early_stopping.patience must be at least 1 (got 0)."),
        ({"patience": -1}, "--early_stopping.patience must be at least 1 (got -1)."),
    ],
)
def test_stopping_that_cannot_be_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        StoppingSettings(**setting)


def test_the_bounds_themselves_are_taken() -> None:
    StoppingSettings(patience=1)


def test_a_models_lens_is_in_the_folder_of_its_name() -> None:
    assert ExportSettings().of("gpt2") == Path("checkpoints/tuned_lenses/gpt2")
    assert ExportSettings(folder="/elsewhere").of("gpt2") == Path("/elsewhere/gpt2")


@pytest.mark.parametrize("kind", [StoppingSettings, ExportSettings])
def test_every_option_is_explained(kind: type) -> None:
    assert unexplained(kind) == set()
