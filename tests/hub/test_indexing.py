import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.hub.index import read_index
from logos_pl.hub.indexing import index_folder
from logos_pl.hub.push import plan_release
from tests.artifacts.lenses import reseal
from tests.hub.publishing import REPO, SMALL, TAG, TINY
from tests.hub.stand_in import Hub


@pytest.fixture
def root(hub: Hub, checkpoints: Path) -> Path:
    return plan_release(REPO, checkpoints, None, TAG).folder


def test_the_index_of_a_published_folder_is_the_one_that_was_published(root: Path) -> None:
    assert index_folder(root, f"{TAG}.1") == read_index(root)


def test_an_index_made_anew_has_all_but_what_only_the_models_repository_knows(root: Path) -> None:
    before = read_index(root)
    (root / "INDEX.json").unlink()
    index = index_folder(root, TAG)
    assert index.licences == before.licences
    for model_id in (TINY, SMALL):
        one, two = before.tuned_lenses[model_id], index.tuned_lenses[model_id]
        assert (one.sha256, one.num_bytes, one.tl_version) == (two.sha256, two.num_bytes, two.tl_version)
        assert (two.licence.id, two.licence.files) == (None, one.licence.files)


def test_what_changed_belongs_to_the_new_release_and_the_rest_stays(root: Path) -> None:
    reseal(root / "tuned_lenses" / SMALL, seed=7)
    index = index_folder(root, f"{TAG}.1")
    assert index.release == f"{TAG}.1"
    assert {model: entry.tl_version for model, entry in index.tuned_lenses.items()} == {TINY: TAG, SMALL: f"{TAG}.1"}
    assert index.tuned_lenses[TINY].licence.id == "mit"
    shutil.rmtree(root / "tuned_lenses" / SMALL)
    assert index_folder(root, f"{TAG}.1").tuned_lenses.keys() == {TINY}


def test_a_lens_in_the_place_of_another_is_refused(root: Path) -> None:
    (root / "tuned_lenses" / SMALL).rename(root / "tuned_lenses" / "org" / "other")
    with pytest.raises(
        InputError, match=r"other holds the tuned lens of org/small, which must be in tuned_lenses/org/sm"
    ):
        index_folder(root, TAG)


@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (lambda lens: (lens / "NOTICE").write_text("by hand"), r"small/NOTICE does not match provenance\.json"),
        (lambda lens: (lens / "NOTICE").unlink(), r"small/NOTICE does not match provenance\.json \(sha256 None"),
        (
            lambda lens: (lens / "notes.txt").write_text(""),
            r"small/notes\.txt is not a file of a tuned lens: move it away",
        ),
        (lambda lens: (lens / ".hidden").write_text(""), r"small/\.hidden is not a file of a tuned lens: move it away"),
        (lambda lens: (lens / "figures").mkdir(), r"small/figures is not a file of a tuned lens: move it away"),
        (
            lambda lens: ((lens / "NOTICE").unlink(), (lens / "NOTICE").mkdir()),
            r"small/NOTICE is not a file of a tuned lens: move it away",
        ),
    ],
)
def test_what_a_verification_would_refuse_is_not_indexed(
    root: Path, tamper: Callable[[Path], Any], sentence: str
) -> None:
    tamper(root / "tuned_lenses" / SMALL)
    with pytest.raises(InputError, match=sentence):
        index_folder(root, TAG)


def test_what_is_no_artifact_is_refused(root: Path) -> None:
    reseal(root / "tuned_lenses" / SMALL, more=1)
    with pytest.raises(InputError, match="has the unknown field more"):
        index_folder(root, TAG)
    with pytest.raises(InputError, match="There is no lens in"):
        index_folder(root / "LICENSES", TAG)
    (root / "INDEX.json").unlink()
    (root / "INDEX.json").mkdir()
    with pytest.raises(InputError, match=r"INDEX\.json is not a regular file"):
        index_folder(root, TAG)


def test_a_licence_whose_name_is_not_utf8_is_refused(root: Path) -> None:
    (root / "LICENSES" / os.fsdecode(b"\xff")).write_text("Do what you like.")
    with pytest.raises(InputError, match=r"has a name that is not UTF-8: rename it"):
        index_folder(root, TAG)
