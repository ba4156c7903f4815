import json
import os
import shutil
from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.hub.checkpoints import find_artifacts
from tests.hub.publishing import SMALL, TINY


def test_artifacts_are_found_by_their_provenance_in_both_layouts_and_never_in_hidden_folders_or_kept_ones(
    checkpoints: Path,
) -> None:
    lenses = checkpoints / "tuned_lenses"
    shutil.copytree(lenses / "small", lenses / ".small.old")
    shutil.copytree(lenses / "small", lenses / "small.replaced-20260131-1200")
    shutil.copytree(lenses / "small", lenses / "small.replaced-20260131-1200-2")
    (lenses / "org").mkdir()
    (lenses / "tiny").rename(lenses / "org" / "tiny")
    found = find_artifacts(checkpoints)
    assert [(artifact.kind, artifact.model_id, artifact.folder) for artifact in found] == [
        ("tuned_lenses", TINY, lenses / "org" / "tiny"),
        ("tuned_lenses", SMALL, lenses / "small"),
    ]
    assert [artifact.model_id for artifact in find_artifacts(checkpoints, [SMALL])] == [SMALL]


def test_a_model_without_an_artifact_is_named_with_those_that_have_one(checkpoints: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no artifact of org/none in .*, which holds: org/small, org/tiny"):
        find_artifacts(checkpoints, [TINY, "org/none"])
    with pytest.raises(InputError, match=r"There is no lens in .*, which holds: nothing"):
        find_artifacts(tmp_path / "empty")


def test_two_artifacts_of_one_model_are_refused(checkpoints: Path) -> None:
    lenses = checkpoints / "tuned_lenses"
    shutil.copytree(lenses / "tiny", lenses / "org" / "tiny")
    with pytest.raises(InputError, match="both hold the tuned lens of org/tiny: move one away"):
        find_artifacts(checkpoints)


@pytest.mark.parametrize(
    "given", [{"model_commit": "c0"}, {"model_id": ["x"], "model_commit": "c0"}, {"model_id": "x", "model_commit": 1}]
)
def test_a_provenance_that_names_no_model_is_refused(checkpoints: Path, given: dict[str, object]) -> None:
    path = checkpoints / "tuned_lenses" / "small" / "provenance.json"
    path.write_text(json.dumps(given))
    with pytest.raises(InputError, match="lacks model_id or model_commit"):
        find_artifacts(checkpoints)


@pytest.mark.parametrize("data", [b"\xff", b"[", b"[" * 100_000])
def test_a_provenance_that_is_no_json_is_refused(checkpoints: Path, data: bytes) -> None:
    (checkpoints / "tuned_lenses" / "small" / "provenance.json").write_bytes(data)
    with pytest.raises(InputError, match=r"small/provenance\.json is not valid JSON|is nested deeper"):
        find_artifacts(checkpoints)


def test_a_pipe_in_the_place_of_a_provenance_is_refused(checkpoints: Path) -> None:
    path = checkpoints / "tuned_lenses" / "small" / "provenance.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"provenance\.json is not a regular file"):
        find_artifacts(checkpoints)
