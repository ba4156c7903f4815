"""Names of models: ids with revisions, folders with an @ in their name, files of GGUF models."""

from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.lm.model_names import clean_name, filed_under, folder_name, folder_name_of, split_revision


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("org/m", ("org/m", None)),
        ("org/m@step1000", ("org/m", "step1000")),
        ("org/m@refs/pr/1", ("org/m", "refs/pr/1")),
        ("demo", ("demo", None)),
    ],
)
def test_a_revision_is_what_follows_the_at(given: str, wanted: tuple[str, str | None]) -> None:
    assert split_revision(given) == wanted


@pytest.mark.parametrize("given", ["org/m@", "@main", "@"])
def test_half_a_name_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="does not name a model at a revision"):
        split_revision(given)


def test_an_at_in_a_folders_name_begins_no_revision(tmp_path: Path) -> None:
    folder = tmp_path / "m@home"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)
    assert split_revision(f"{folder}@main") == (str(folder), "main")
    assert filed_under(str(folder)) == "m@home"


def test_files_are_named_by_the_last_part_and_the_revision() -> None:
    assert clean_name("org/m/") == "m"
    assert folder_name("org/m") == folder_name_of("org/m") == "m"
    assert folder_name_of("org/m@refs/pr/1") == "m@refs-pr-1"


def test_a_gguf_model_is_called_by_its_file(tmp_path: Path) -> None:
    assert filed_under("org/m", "m.Q8_0.gguf") == "org/m.Q8_0.gguf"
    assert filed_under(str(tmp_path), "m.Q8_0.gguf") == "m.Q8_0.gguf"
