"""What every artifact is checked for: its files by hash, its model by id and commit, its folder by owner."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from logos_pl.artifacts import load_tuned_lens
from logos_pl.artifacts.checks import MAX_FILE_BYTES, is_repeated, read_verified, refuse_other_owner
from logos_pl.artifacts.provenance import Provenance
from logos_pl.errors import InputError
from tests.artifacts.lenses import make_lm, make_provenance, write_sealed


def test_another_model_is_refused_by_both_names(artifact: Path) -> None:
    with pytest.raises(InputError, match="trained for org/tiny, not for org/other: load"):
        load_tuned_lens(artifact, make_lm(model_id="org/other"))


def test_a_model_of_the_same_last_name_from_elsewhere_is_refused(artifact: Path) -> None:
    with pytest.raises(InputError, match="org/tiny, not for fork/tiny, although both are called tiny"):
        load_tuned_lens(artifact, make_lm(model_id="fork/tiny"))


def test_another_commit_is_refused_by_both_commits(artifact: Path) -> None:
    with pytest.raises(InputError, match="at commit c0ffee, but the model is at decaf"):
        load_tuned_lens(artifact, make_lm(commit="decaf"))


@pytest.mark.parametrize("name", ["../weights.pt", "/etc/passwd", "extra"])
def test_a_provenance_cannot_name_files_elsewhere(artifact: Path, name: str) -> None:
    plain = json.loads((artifact / "provenance.json").read_text())
    plain["sha256"][name] = "0" * 64
    write_sealed(artifact, plain)
    with pytest.raises(InputError, match="is not a file of a lens"):
        load_tuned_lens(artifact)


def test_weights_without_a_recorded_hash_are_refused(artifact: Path) -> None:
    plain = json.loads((artifact / "provenance.json").read_text())
    del plain["sha256"]["weights.pt"]
    write_sealed(artifact, plain)
    with pytest.raises(InputError, match=r"no hash of weights\.pt"):
        load_tuned_lens(artifact)


def files_in(folder: Path, **files: bytes) -> dict[str, str]:
    """Writes files; their hashes by name."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_the_files_come_back_as_they_were_recorded_and_no_others(tmp_path: Path) -> None:
    recorded = files_in(tmp_path, weights=b"numbers", card=b"words")
    files_in(tmp_path, other=b"not recorded")
    assert read_verified(tmp_path, recorded, {"weights"}, {"weights", "card", "picture"}, {}) == {
        "weights": b"numbers",
        "card": b"words",
    }


def test_one_bit_of_any_file_is_refused_with_both_hashes(tmp_path: Path) -> None:
    recorded = files_in(tmp_path, card=b"words")
    files_in(tmp_path, card=b"worde")
    found = hashlib.sha256(b"worde").hexdigest()
    with pytest.raises(
        InputError, match=f"card was altered: its sha256 is {found[:12]}…, but {recorded['card'][:12]}…"
    ):
        read_verified(tmp_path, recorded, set(), {"card"}, {})


def test_a_file_has_its_own_bound_or_that_of_all(tmp_path: Path) -> None:
    recorded = files_in(tmp_path, weights=b"12345", card=b"12345")
    known = {"weights", "card"}
    assert len(read_verified(tmp_path, recorded, set(), known, {"weights": 5})) == 2
    with pytest.raises(InputError, match="weights has 5 bytes or more, and at most 4 are read"):
        read_verified(tmp_path, recorded, set(), known, {"weights": 4})
    assert MAX_FILE_BYTES == 64 * 2**20


@pytest.mark.parametrize("name", ["provenance.json", "provenance.json.sha256"])
def test_a_provenance_cannot_vouch_for_itself(tmp_path: Path, name: str) -> None:
    recorded = files_in(tmp_path, **{name: b"{}"})
    with pytest.raises(InputError, match=f"lists '{name}', which is not a file of a lens"):
        read_verified(tmp_path, recorded, set(), {name}, {})


def test_a_folder_of_another_model_is_refused_and_a_hub_model_at_another_commit_is_not(tmp_path: Path) -> None:
    there = make_provenance()  # of org/tiny at c0ffee
    refuse_other_owner(there, "org/tiny", "c0ffee", tmp_path, "lens", "--export.folder")
    refuse_other_owner(there, "org/tiny", "decaf", tmp_path, "lens", "--export.folder")
    for model_id, commit in (("org/other", "c0ffee"), ("org/tiny", "sha256:0")):
        with pytest.raises(
            InputError, match=rf"holds the lens of org/tiny at c0ffee, .* {model_id} at {commit}: choose "
        ):
            refuse_other_owner(there, model_id, commit, tmp_path, "lens", "--export.folder")


@pytest.mark.parametrize(
    ("changes", "repeated"),
    [
        ({}, True),
        ({"git_sha": "c0de" * 10, "project_version": "9"}, True),
        ({"sha256": {"weights.pt": "1", "README.md": "another card"}}, True),
        ({"sha256": {"weights.pt": "2", "README.md": "card"}}, False),
        ({"sha256": {"weights.pt": "1", "README.md": "card", "NOTICE": "more than is written"}}, False),
        ({"seed": 7}, False),
        ({"tokenizer_commit": "decaf"}, False),
    ],
)
def test_an_artifact_is_repeated_where_only_its_card_and_the_run_differ(
    tmp_path: Path, changes: dict[str, object], repeated: bool
) -> None:
    written = dataclasses.replace(make_provenance(), sha256={"weights.pt": "1", "README.md": "card"})
    there = dataclasses.replace(written, **changes)
    assert is_repeated(tmp_path, written, lambda folder: there) == repeated


def test_what_cannot_be_read_is_never_taken_for_the_same(tmp_path: Path) -> None:
    def read(folder: Path) -> Provenance:
        raise InputError("altered")

    assert not is_repeated(tmp_path, make_provenance(), read)
