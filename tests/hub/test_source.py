"""One reference, three meanings: a lens's folder, a folder in the layout of the Hub, a repository there."""

import shutil
from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.hub.push import plan_release
from logos_pl.hub.source import lens_folder
from tests.artifacts.lenses import contents
from tests.hub.publishing import REPO, SMALL, TAG, TINY, UPLOADS
from tests.hub.stand_in import Hub

pytestmark = UPLOADS


def test_a_lenss_own_folder_is_itself_whatever_model_is_asked_for(checkpoints: Path) -> None:
    folder = checkpoints / "tuned_lenses" / "tiny"
    assert lens_folder(folder) == lens_folder(str(folder), TINY) == folder
    with pytest.raises(InputError, match="which is a folder: leave it out"):
        lens_folder(folder, TINY, TAG)


def test_a_lens_that_stepped_aside_is_still_found(checkpoints: Path) -> None:
    folder = checkpoints / "tuned_lenses" / "tiny"
    folder.rename(folder.with_name(".tiny.old"))
    with pytest.warns(UserWarning, match="was interrupted"):
        assert lens_folder(folder) == folder.with_name(".tiny.old")


def test_a_folder_in_the_layout_of_the_hub_gives_the_models_lens_verified(hub: Hub, checkpoints: Path) -> None:
    root = plan_release(REPO, checkpoints, None, TAG).folder
    assert lens_folder(root, SMALL) == root / "tuned_lenses" / SMALL
    with pytest.raises(
        InputError, match=r"exactly one lens if no model_id is given \(it has: org/small, org/tiny\): give"
    ):
        lens_folder(root)
    with pytest.raises(InputError, match="has no tuned lens of org/none; it has: org/small, org/tiny"):
        lens_folder(root, "org/none")
    (root / "tuned_lenses" / SMALL / "NOTICE").write_text("altered")
    with pytest.raises(InputError, match="NOTICE was altered"):
        lens_folder(root, SMALL)
    assert lens_folder(root, TINY) == root / "tuned_lenses" / TINY


def test_a_repository_gives_the_models_lens_and_nothing_of_another(published: Hub, tmp_path: Path) -> None:
    folder = lens_folder(REPO, TINY, TAG)
    assert contents(folder).keys() >= {"weights.pt", "bias_only.pt", "provenance.json"}
    assert all(path == "INDEX.json" or path.startswith(f"tuned_lenses/{TINY}/") for path in published.fetched())
    with pytest.raises(InputError, match="me/lenses must have exactly one lens"):
        lens_folder(REPO)


def test_a_folder_goes_before_a_repository_of_the_same_name(
    published: Hub, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoints.parent)
    shutil.copytree(checkpoints / "tuned_lenses" / "tiny", Path(REPO))
    assert lens_folder(REPO, TINY) == Path(REPO)
    assert published.requests == []


def test_what_cannot_be_a_repository_is_looked_for_on_this_machine_alone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("checkpoints/tuned_lenses/demo", "./me/lenses", "lenses"):
        with pytest.raises(InputError, match="There is no artifact at"):
            lens_folder(source)
    assert hub.requests == []


def test_a_folder_around_lenses_is_not_taken_for_a_lens_that_was_damaged(checkpoints: Path) -> None:
    with pytest.raises(InputError, match=r"holds no lens .* and no INDEX\.json: give the folder of a lens, such as"):
        lens_folder(checkpoints)
