import json
import shutil
from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.hub.index import read_index
from logos_pl.hub.indexing import index_folder
from logos_pl.hub.push import plan_release
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
    (root / "tuned_lenses" / SMALL / "NOTICE").write_text("by hand")
    index = index_folder(root, f"{TAG}.1")
    assert index.release == f"{TAG}.1"
    assert {model: entry.tl_version for model, entry in index.tuned_lenses.items()} == {TINY: TAG, SMALL: f"{TAG}.1"}
    assert index.tuned_lenses[TINY].licence.id == "mit"
    shutil.rmtree(root / "tuned_lenses" / SMALL)
    assert index_folder(root, f"{TAG}.1").tuned_lenses.keys() == {TINY}


def test_a_lens_in_the_place_of_another_is_refused(root: Path) -> None:
    (root / "tuned_lenses" / SMALL).rename(root / "tuned_lenses" / "org" / "other")
    with pytest.raises(
        InputError, match=r"other holds the tuned lens of org/small, whose place is tuned_lenses/org/sm"
    ):
        index_folder(root, TAG)


def test_what_is_no_artifact_is_refused(root: Path) -> None:
    path = root / "tuned_lenses" / SMALL / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 1}))
    with pytest.raises(InputError, match="has the unknown field more"):
        index_folder(root, TAG)
    with pytest.raises(InputError, match="There is no tuned lens or Prism in"):
        index_folder(root / "LICENSES", TAG)
