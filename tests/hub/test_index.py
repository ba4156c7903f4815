import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.hub.index import Index, Licence, entry_of, read_index
from tests.artifacts.verdicts import gate_files

FILES = {
    "provenance.json": b'{"model_commit": "c0"}',
    "weights.pt": b"x" * 1_500_000,
    "gates.json": gate_files(model_id="a/y", model_commit="c0")["gates.json"],
}
LENS = {name: data for name, data in FILES.items() if name != "gates.json"}


def test_an_index_is_read_back_as_it_was_written_and_sorted_by_model() -> None:
    licence = Licence("mit", None, ["LICENSES/b/x/LICENSE"])
    index = Index("v2026.01.31", licences={"LICENSES/b/x/LICENSE": "0" * 64})
    for model_id in ("b/x", "a/y"):
        own = licence if model_id == "b/x" else Licence(None, None, [])
        index = index.with_entry("tuned_lenses", model_id, entry_of("tuned_lenses", model_id, LENS, "v2026.01.31", own))
    index = index.with_entry("prisms", "a/y", entry_of("prisms", "a/y", LENS, "v2026.01.31", Licence(None, None, [])))

    assert Index.from_json(index.to_json()) == index
    assert [(kind, model_id) for kind, model_id, _ in index] == [
        ("tuned_lenses", "a/y"), ("tuned_lenses", "b/x"), ("prisms", "a/y"),
    ]  # fmt: skip


def test_an_entry_says_what_its_files_say() -> None:
    entry = entry_of("tuned_lenses", "a/y", FILES, "v1", Licence(None, None, []))
    assert (entry.model_commit, entry.tokenizer_commit, entry.gates_passed) == ("c0", None, True)
    assert (entry.num_bytes, entry.size) == (sum(map(len, FILES.values())), "1.5 MB")
    assert entry.sha256.keys() == FILES.keys()
    assert dataclasses.replace(entry, num_bytes=999).size == "1 kB"


def test_an_artifact_whose_provenance_names_no_model_commit_has_no_entry() -> None:
    with pytest.raises(InputError, match="has no model_commit"):
        entry_of("prisms", "a/y", {"provenance.json": b"{}"}, "v1", Licence(None, None, []))


def test_the_verdict_in_an_entry_is_that_of_the_gates_file_and_not_a_copy_of_it() -> None:
    forged = LENS | {"provenance.json": b'{"model_commit": "c0", "acceptance": {"passed": true}}'}
    assert entry_of("tuned_lenses", "a/y", forged, "v1", Licence(None, None, [])).gates_passed is None
    failed = FILES | {"gates.json": gate_files(passed=False, model_id="a/y", model_commit="c0")["gates.json"]}
    assert entry_of("tuned_lenses", "a/y", failed, "v1", Licence(None, None, [])).gates_passed is False


@pytest.mark.parametrize("acceptance", [{}, [], "passed", True, {"passed": "yes"}, {"passed": 1}, {"passed": None}])
def test_an_acceptance_without_a_verdict_is_refused(acceptance: Any) -> None:
    document = json.loads(FILES["gates.json"]) | {"acceptance": acceptance}
    files = FILES | {"gates.json": json.dumps(document).encode()}
    with pytest.raises(InputError, match=r"^gates\.json: acceptance (is|lacks)"):
        entry_of("tuned_lenses", "a/y", files, "v1", Licence(None, None, []))


@pytest.mark.parametrize("place", ["release", "tl_version"])
@pytest.mark.parametrize("tag", ["v1", "", "v2026.01.31\x1b[31m", "latest"])
def test_what_is_no_release_is_refused_by_its_place(place: str, tag: str) -> None:
    index = Index("v2026.01.31").with_entry(
        "prisms", "a/y", entry_of("prisms", "a/y", LENS, "v2026.01.31", Licence(None, None, []))
    )
    document = json.loads(index.to_json())
    if place == "release":
        document["release"] = tag
    else:
        document["prisms"]["a/y"]["tl_version"] = tag
    with pytest.raises(InputError, match=f"{place} is .*, which is not a release"):
        Index.from_json(json.dumps(document))


def test_an_index_that_is_a_folder_or_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "INDEX.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"INDEX\.json is not UTF-8 text"):
        read_index(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"INDEX\.json is not a regular file"):
        read_index(tmp_path)
