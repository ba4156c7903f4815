"""A tiny model and an artifact for it."""

from pathlib import Path

import pytest

from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.lm.frozen import FrozenLM
from tests.artifacts.lenses import make_lm, make_provenance, make_translators


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return make_lm()


@pytest.fixture
def artifact(tmp_path: Path, lm: FrozenLM) -> Path:
    translators = make_translators()
    save_tuned_lens(tmp_path / "tiny", translators, make_provenance(lm, translators))
    return tmp_path / "tiny"
