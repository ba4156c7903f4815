"""What every test shares: shapes checked at run time, the reference folder, no network."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Before the first import of the package: every shape annotation below becomes an assertion in the tests.
install_import_hook(["logos_pl.functional", "logos_pl.lenses", "logos_pl.lm"], "beartype.beartype")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference models, texts and numbers; tests that need it skip where it is not given."""
    folder = os.environ.get("LOGOS_PL_SHARED")
    if folder is None:
        pytest.skip("LOGOS_PL_SHARED is not set: it names the folder of reference models and texts")
    return Path(folder)
