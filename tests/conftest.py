"""What every test shares: shapes checked at run time, the reference folder, no network."""

import os
import shutil
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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model and a corpus of random words, which no test may change."""
    from tests.tiny import make_corpus, make_model

    folder = tmp_path_factory.mktemp("tiny")
    return {"model": make_model(folder / "tiny-llama"), "corpus": make_corpus(folder / "corpus")}


@pytest.fixture(scope="session")
def _fit_of_tiny(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One fit for all modules of a worker."""
    from logos_pl.cli.entry import main
    from tests.tiny import fit_arguments

    logs = tmp_path_factory.mktemp("fit_of_tiny")
    assert main(["fit", *fit_arguments(**tiny, logs=logs)]) == 0
    return logs


@pytest.fixture(scope="module")
def fitted(_fit_of_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit's run and its lens, the module's own copy."""
    return shutil.copytree(_fit_of_tiny, tmp_path_factory.mktemp("fitted"), dirs_exist_ok=True)
