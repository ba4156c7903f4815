import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.hub.index import Index, Licence, entry_of, read_index

FILES = {"provenance.json": b'{"model_commit": "c0", "acceptance": {"passed": true}}', "weights.pt": b"x" * 1_500_000}


def test_an_index_is_read_back_as_it_was_written_and_sorted_by_model() -> None:
    licence = Licence("mit", None, ["LICENSES/b/x/LICENSE"])
    index = Index("v2026.01.31", licences={"LICENSES/b/x/LICENSE": "0" * 64})
    for model_id in ("b/x", "a/y"):
        own = licence if model_id == "b/x" else Licence(None, None, [])
        index = index.with_entry("tuned_lenses", model_id, entry_of("tuned_lenses", model_id, FILES, "v1", own))
    index = index.with_entry("prisms", "a/y", entry_of("prisms", "a/y", FILES, "v1", Licence(None, None, [])))

    assert Index.from_json(index.to_json()) == index
    assert [(kind, model_id) for kind, model_id, _ in index] == [
        ("tuned_lenses", "a/y"), ("tuned_lenses", "b/x"), ("prisms", "a/y"),
    ]  # fmt: skip


def test_an_entry_says_what_its_files_say() -> None:
    entry = entry_of("tuned_lenses", "a/y", FILES, "v1", Licence(None, None, []))
    assert (entry.model_commit, entry.tokenizer_commit, entry.gates_passed) == ("c0", None, True)
    assert (entry.num_bytes, entry.size) == (1_500_000 + len(FILES["provenance.json"]), "1.5 MB")
    assert entry.sha256.keys() == FILES.keys()
    assert dataclasses.replace(entry, num_bytes=999).size == "1 kB"


def test_an_artifact_whose_provenance_names_no_model_commit_has_no_entry() -> None:
    with pytest.raises(InputError, match="names no model_commit"):
        entry_of("prisms", "a/y", {"provenance.json": b"{}"}, "v1", Licence(None, None, []))


@pytest.mark.parametrize("acceptance", [{}, [], "passed", True, {"passed": "yes"}, {"passed": 1}, {"passed": None}])
def test_an_acceptance_without_a_verdict_is_refused(acceptance: Any) -> None:
    files = {"provenance.json": json.dumps({"model_commit": "c0", "acceptance": acceptance}).encode()}
    with pytest.raises(InputError, match="acceptance has no verdict `passed`"):
        entry_of("tuned_lenses", "a/y", files, "v1", Licence(None, None, []))


def test_an_index_that_is_a_folder_or_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "INDEX.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"INDEX\.json is not UTF-8 text"):
        read_index(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"INDEX\.json is a folder, and has to be a file: move it away"):
        read_index(tmp_path)
