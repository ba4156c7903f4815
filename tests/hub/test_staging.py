import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from logos_pl.artifacts.card import Release
from logos_pl.artifacts.prism import load_prism, save_prism
from logos_pl.cli.hub import main
from logos_pl.errors import InputError
from logos_pl.hub.checkpoints import find_artifacts
from logos_pl.hub.index import Licence
from logos_pl.hub.indexing import index_folder
from logos_pl.hub.licences import FoundLicence
from logos_pl.hub.push import plan_release
from logos_pl.hub.staging import stage
from logos_pl.hub.verify import artifact_files
from tests.artifacts.lenses import contents, reseal, write_sealed
from tests.artifacts.prisms import make_map, prism_provenance
from tests.hub.publishing import REPO, TAG, reindex
from tests.hub.stand_in import Hub

UNKNOWN = FoundLicence(Licence(None, None, []), {}, None)
RELEASE = Release("me/lenses", "v2026.01.31")


def make_prism(checkpoints: Path) -> Path:
    folder = checkpoints / "prisms" / "tiny"
    save_prism(folder, make_map(), prism_provenance())
    return folder


def test_a_prism_is_published_as_it_is_with_its_notice(tmp_path: Path) -> None:
    before = contents(make_prism(tmp_path))
    root = tmp_path / "built"
    staged = stage(root, find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})

    entry = staged.index.prisms["org/tiny"]
    assert (entry.path, entry.gates_passed, entry.tokenizer_commit) == ("prisms/org/tiny", None, "70ce")
    files = artifact_files(root, "prisms", "org/tiny", entry)
    assert files.keys() == before.keys() | {"NOTICE"}
    assert {name: files[name] for name in ("whiten.pt", "rotation.pt", "README.md")} == {
        name: before[name] for name in ("whiten.pt", "rotation.pt", "README.md")
    }
    assert files["NOTICE"].startswith(b"Prism for org/tiny, version v2026.01.31")
    (tmp_path / "again").mkdir()
    for name, data in files.items():
        (tmp_path / "again" / name).write_bytes(data)
    lens, provenance = load_prism(tmp_path / "again")
    assert all(torch.equal(one, two) for one, two in zip(lens.prism, make_map(), strict=True))
    assert provenance.sha256.keys() == files.keys() - {"provenance.json", "provenance.json.sha256"}


def test_a_prism_published_twice_keeps_its_version(tmp_path: Path) -> None:
    make_prism(tmp_path)
    first = stage(tmp_path / "one", find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})
    later = RELEASE._replace(version="v2026.02.01")
    again = stage(tmp_path / "two", find_artifacts(tmp_path), later, first.index, {"org/tiny": UNKNOWN})
    assert (again.changed, again.index) == ([], first.index)


def test_a_damaged_prism_is_not_published(tmp_path: Path) -> None:
    (make_prism(tmp_path) / "whiten.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"whiten\.pt was altered"):
        stage(tmp_path / "built", find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})


def no_hashes(folder: Path) -> None:
    plain = json.loads((folder / "provenance.json").read_text())
    write_sealed(folder, plain | {"sha256": {}})


def another_schema(folder: Path) -> None:
    reseal(folder, schema_version=99)


def not_a_number(folder: Path) -> None:
    """NaN in the map, with the hash that fits."""
    parts = torch.load(folder / "whiten.pt", weights_only=True)
    parts["mean"][0] = float("nan")
    torch.save(parts, folder / "whiten.pt")
    reseal(folder)


@pytest.mark.parametrize(
    ("damage", "when_loaded", "when_indexed"),
    [
        (no_hashes, r"has no hash of", r"does not match provenance\.json"),
        (another_schema, r"has schema_version 99", r"has schema_version 99"),
        (not_a_number, r"The prism's mean is .* must be finite", r"The prism's mean is .* must be finite"),
    ],
)
def test_a_prism_that_cannot_be_read_is_neither_published_nor_indexed_nor_verified(
    hub: Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    when_loaded: str,
    when_indexed: str,
) -> None:
    folder = make_prism(tmp_path)
    root = plan_release(REPO, tmp_path, None, TAG).folder
    damage(folder)
    with pytest.raises(InputError, match=when_loaded):
        plan_release(f"{REPO}-2", tmp_path, None, TAG)

    built = root / "prisms" / "org" / "tiny"
    damage(built)
    with pytest.raises(InputError, match=when_indexed):
        index_folder(root, TAG)
    reindex(root, "org/tiny", "prisms")  # whoever damages it may write hashes that fit
    assert main(["verify", str(root)]) == 2
    assert re.search(when_indexed, capsys.readouterr().out)


def test_a_prism_that_names_a_file_outside_its_folder_is_not_published(tmp_path: Path) -> None:
    folder = make_prism(tmp_path)
    (tmp_path / "secret").write_text("mine")
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["sha256"]["../../secret"] = hashlib.sha256(b"mine").hexdigest()
    write_sealed(folder, provenance)
    with pytest.raises(InputError, match=r"lists '\.\./\.\./secret', which is not a file of a lens"):
        stage(tmp_path / "built", find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})


def test_a_folder_of_something_else_is_not_cleared_for_a_release(tmp_path: Path) -> None:
    make_prism(tmp_path)
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="built is in the way of the release to be built"):
        stage(tmp_path / "built", find_artifacts(tmp_path), RELEASE, None, {"org/tiny": UNKNOWN})
    assert (tmp_path / "built" / "diary.txt").read_text() == "mine"
