import hashlib
import json
from pathlib import Path

import pytest

from logos_pl.artifacts.card import Release
from logos_pl.errors import InputError
from logos_pl.hub.checkpoints import find_artifacts
from logos_pl.hub.index import Licence
from logos_pl.hub.licences import FoundLicence
from logos_pl.hub.staging import stage
from logos_pl.hub.verify import artifact_files
from tests.artifacts.lenses import contents

UNKNOWN = FoundLicence(Licence(None, None, []), {}, None)
RELEASE = Release("me/lenses", "v2026.01.31")


def make_prism(checkpoints: Path) -> Path:
    """A folder as a Prism's is: files, and a provenance with model, commit and the hash of each."""
    folder = checkpoints / "prisms" / "tiny"
    folder.mkdir(parents=True)
    files = {"whiten.pt": b"w", "rotation.pt": b"r", "README.md": b"# Prism\n"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    provenance = {"model_id": "org/tiny", "model_commit": "c0", "more": [1.5], "sha256": hashes}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


def test_a_prism_is_published_as_it_is_with_its_notice(tmp_path: Path) -> None:
    before = contents(make_prism(tmp_path))
    root = tmp_path / "built"
    staged = stage(root, find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})

    entry = staged.index.prisms["org/tiny"]
    assert (entry.path, entry.gates_passed, entry.tokenizer_commit) == ("prisms/org/tiny", None, None)
    files = artifact_files(root, "prisms", "org/tiny", entry)
    assert files.keys() == before.keys() | {"NOTICE"}
    assert {name: files[name] for name in ("whiten.pt", "rotation.pt", "README.md")} == {
        name: before[name] for name in ("whiten.pt", "rotation.pt", "README.md")
    }
    assert files["NOTICE"].startswith(b"Prism for org/tiny, version v2026.01.31")
    assert json.loads(files["provenance.json"])["more"] == [1.5]


def test_a_prism_published_twice_keeps_its_version(tmp_path: Path) -> None:
    make_prism(tmp_path)
    first = stage(tmp_path / "one", find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})
    later = RELEASE._replace(version="v2026.02.01")
    again = stage(tmp_path / "two", find_artifacts(tmp_path), later, first.index, {"org/tiny": UNKNOWN})
    assert (again.changed, again.index) == ([], first.index)


def test_a_damaged_prism_is_not_published(tmp_path: Path) -> None:
    (make_prism(tmp_path) / "whiten.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"whiten\.pt is missing or was altered"):
        stage(tmp_path / "built", find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})


def test_a_prism_that_names_a_file_outside_its_folder_is_not_published(tmp_path: Path) -> None:
    folder = make_prism(tmp_path)
    (tmp_path / "secret").write_text("mine")
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["sha256"]["../../secret"] = hashlib.sha256(b"mine").hexdigest()
    (folder / "provenance.json").write_text(json.dumps(provenance))
    with pytest.raises(InputError, match=r"names the file '\.\./\.\./secret', which would lie outside its folder"):
        stage(tmp_path / "built", find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})


def test_a_folder_of_something_else_is_not_cleared_for_a_release(tmp_path: Path) -> None:
    make_prism(tmp_path)
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="built is in the way of the release to be built"):
        stage(tmp_path / "built", find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})
    assert (tmp_path / "built" / "diary.txt").read_text() == "mine"
