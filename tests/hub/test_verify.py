"""Copies that are not what was published: each is refused by the name of what is wrong."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts.card import Release
from logos_pl.errors import InputError
from logos_pl.hub.checkpoints import find_artifacts
from logos_pl.hub.index import Licence, read_index
from logos_pl.hub.licences import FoundLicence
from logos_pl.hub.staging import stage
from logos_pl.hub.verify import artifact_files, check_licences
from tests.hub.publishing import LICENCE, REPO, SMALL, TAG, TINY, Made

LENS = f"tuned_lenses/{TINY}"


@pytest.fixture(scope="module")
def built(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of the Hub."""
    root = tmp_path_factory.mktemp("built")
    path = f"LICENSES/{TINY}/LICENSE"
    licences = {
        TINY: FoundLicence(Licence("mit", None, [path]), {path: LICENCE}, None),
        SMALL: FoundLicence(Licence(None, None, []), {}, None),
    }
    stage(root, find_artifacts(made.checkpoints), Release(REPO, TAG), None, licences)
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may tamper with."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(built, tmp_path / "copy")


def verify(root: Path) -> None:
    index = read_index(root)
    for kind, model_id, entry in index:
        artifact_files(root, kind, model_id, entry)
    check_licences(root, index, [TINY, SMALL])


def edit(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def entry_edit(root: Path, change: Callable[[Any], None]) -> None:
    edit(root / "INDEX.json", lambda index: change(index["tuned_lenses"][TINY]))


def change_a_byte(root: Path) -> None:
    path = root / LENS / "weights.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(root: Path) -> None:
    one, two, aside = root / LENS, root / "tuned_lenses" / SMALL, root / "aside"
    one.rename(aside)
    two.rename(one)
    aside.rename(two)


def swap_and_index(root: Path) -> None:
    """Whoever swaps the folders may write hashes that fit, too."""
    swap(root)

    def exchange(index: Any) -> None:
        one, two = index["tuned_lenses"][TINY], index["tuned_lenses"][SMALL]
        for key in ("sha256", "num_bytes"):
            one[key], two[key] = two[key], one[key]

    edit(root / "INDEX.json", exchange)


def provenance_and_index(root: Path, field: str, value: str) -> None:
    """A provenance that was altered together with its own hash in the index."""
    before = (root / LENS / "provenance.json").read_bytes()
    edit(root / LENS / "provenance.json", lambda document: document.update({field: value}))
    data = (root / LENS / "provenance.json").read_bytes()

    def rehash(entry: Any) -> None:
        entry["num_bytes"] += len(data) - len(before)
        entry["sha256"]["provenance.json"] = hashlib.sha256(data).hexdigest()

    entry_edit(root, rehash)


TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one byte": (change_a_byte, r"weights\.pt was altered: its sha256 is [0-9a-f]{12}…, and INDEX\.json records"),
    "no weights": (
        lambda root: (root / LENS / "weights.pt").unlink(),
        r"weights\.pt is missing, and INDEX\.json names",
    ),
    "no provenance": (lambda root: (root / LENS / "provenance.json").unlink(), r"provenance\.json is missing"),
    "one file more": (lambda root: (root / LENS / "more.pt").write_bytes(b""), r"more\.pt is not in INDEX\.json"),
    "swapped": (swap, r"org/(tiny|small) holds the tuned lens of org/(tiny|small), and INDEX\.json has org/"),
    "swapped with hashes": (swap_and_index, r"holds the tuned lens of org/"),
    "licence": (lambda root: (root / "LICENSES" / TINY / "LICENSE").write_text("Yours."), "LICENSE was altered"),
    "no licence": (lambda root: (root / "LICENSES" / TINY / "LICENSE").unlink(), "LICENSE is missing"),
    "no hash of the licence": (
        lambda root: edit(root / "INDEX.json", lambda index: index["licences"].clear()),
        r"has no hash of LICENSES/org/tiny/LICENSE",
    ),
    "path outside": (
        lambda root: entry_edit(root, lambda entry: entry.update(path="../tiny")),
        r"org/tiny, has its files at '\.\./tiny', and their place is tuned_lenses/org/tiny",
    ),
    "another's path": (
        lambda root: entry_edit(root, lambda entry: entry.update(path=f"tuned_lenses/{SMALL}")),
        "and their place is tuned_lenses/org/tiny",
    ),
    "name outside": (
        lambda root: entry_edit(root, lambda entry: entry["sha256"].update({"../../x": "0" * 64})),
        r"names the file '\.\./\.\./x', which would lie outside its folder",
    ),
    "absolute name": (
        lambda root: entry_edit(root, lambda entry: entry["sha256"].update({"C:\\x": "0" * 64})),
        "which would lie outside its folder",
    ),
    "licence outside": (
        lambda root: entry_edit(root, lambda entry: entry["licence"].update(files=["LICENSES/org/tiny/../../../x"])),
        r"names the file '\.\.', which would lie outside its folder",
    ),
    "licence elsewhere": (
        lambda root: edit(root / "INDEX.json", lambda index: index["licences"].update({"weights.pt": "0" * 64})),
        "names 'weights.pt', which is not under LICENSES/",
    ),
    "schema": (
        lambda root: edit(root / "INDEX.json", lambda index: index.update(schema_version=2)),
        r"INDEX\.json has schema_version 2, but this logos-pl reads 1",
    ),
    "no schema": (
        lambda root: edit(root / "INDEX.json", lambda index: index.pop("schema_version")),
        r"INDEX\.json has schema_version None",
    ),
    "field of the index": (
        lambda root: entry_edit(root, lambda entry: entry.pop("tl_version")),
        "lacks the field tl_version",
    ),
    "not JSON": (lambda root: (root / "INDEX.json").write_text("{"), r"INDEX\.json is not valid JSON"),
    "no index": (lambda root: (root / "INDEX.json").unlink(), r"has no INDEX\.json"),
    "commit of the index": (
        lambda root: entry_edit(root, lambda entry: entry.update(model_commit="cd" * 20)),
        r"provenance\.json and INDEX\.json disagree on model_commit",
    ),
    "commit of both": (
        lambda root: provenance_and_index(root, "model_commit", "cd" * 20),
        r"provenance\.json and INDEX\.json disagree on model_commit",
    ),
    "tokenizer's commit": (
        lambda root: provenance_and_index(root, "tokenizer_commit", "cd" * 20),
        r"provenance\.json and INDEX\.json disagree on tokenizer_commit",
    ),
    "verdict": (
        lambda root: entry_edit(root, lambda entry: entry.update(gates_passed=True)),
        r"provenance\.json and INDEX\.json disagree on the gates' verdict",
    ),
    "size": (
        lambda root: entry_edit(root, lambda entry: entry.update(num_bytes=entry["num_bytes"] + 1)),
        r"bytes, and INDEX\.json \d+: fetch it again",
    ),
    "schema of the provenance": (
        lambda root: provenance_and_index(root, "unknown", "field"),
        r"provenance\.json has the unknown field unknown",
    ),
}


def test_a_copy_as_it_was_published_is_accepted(root: Path) -> None:
    verify(root)
    (root / LENS / ".DS_Store").write_bytes(b"what a file browser leaves")
    verify(root)


@pytest.mark.parametrize("what", TAMPERED)
def test_what_is_not_as_published_is_refused_by_name(root: Path, what: str) -> None:
    tamper, sentence = TAMPERED[what]
    tamper(root)
    with pytest.raises(InputError, match=sentence) as refusal:
        verify(root)
    assert "\n" not in str(refusal.value)


def test_nothing_is_unpickled_while_hashes_are_compared(root: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    (root / LENS / "weights.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="was altered"):
        verify(root)
    assert not (tmp_path / "sprung").exists()
