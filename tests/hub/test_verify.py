"""Copies that are not what was published: each is refused by the name of what is wrong."""

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts.card import Release
from logos_pl.errors import InputError
from logos_pl.hub.checkpoints import find_artifacts
from logos_pl.hub.index import Licence, read_index
from logos_pl.hub.licences import FoundLicence
from logos_pl.hub.staging import stage
from logos_pl.hub.verify import artifact_files, check_licences, refuse_foreign_files
from tests.artifacts.lenses import reseal
from tests.artifacts.verdicts import make_acceptance
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


def provenance_and_index(root: Path, field: str, value: Any) -> None:
    """A provenance that was altered together with its own hash, and the hashes of both in the index."""
    reseal(root / LENS, **{field: value})

    def rehash(entry: Any) -> None:
        files = {name: (root / LENS / name).read_bytes() for name in entry["sha256"]}
        entry["num_bytes"] = sum(map(len, files.values()))
        entry["sha256"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}

    entry_edit(root, rehash)


def link_outside(root: Path) -> None:
    """A file whose content is right, and lies elsewhere."""
    (root / LENS / "weights.pt").rename(root.parent / "weights.pt")
    (root / LENS / "weights.pt").symlink_to(root.parent / "weights.pt")


def folder_outside(root: Path) -> None:
    (root / LENS).rename(root.parent / "lens")
    (root / LENS).symlink_to(root.parent / "lens")


def licence_outside(root: Path) -> None:
    (root / "LICENSES" / TINY / "LICENSE").rename(root.parent / "LICENSE")
    (root / "LICENSES" / TINY / "LICENSE").symlink_to(root.parent / "LICENSE")


def pipe(root: Path) -> None:
    (root / LENS / "NOTICE").unlink()
    os.mkfifo(root / LENS / "NOTICE")


def endless(root: Path) -> None:
    (root / LENS / "NOTICE").unlink()
    (root / LENS / "NOTICE").symlink_to("/dev/zero")


TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one byte": (change_a_byte, r"weights\.pt was altered: its sha256 is [0-9a-f]{12}…, but INDEX\.json records"),
    "no weights": (
        lambda root: (root / LENS / "weights.pt").unlink(),
        r"weights\.pt is missing, although INDEX\.json lists",
    ),
    "no provenance": (lambda root: (root / LENS / "provenance.json").unlink(), r"provenance\.json is missing"),
    "one file more": (lambda root: (root / LENS / "more.pt").write_bytes(b""), r"more\.pt is not in INDEX\.json"),
    "a hidden file more": (
        lambda root: (root / LENS / ".DS_Store").write_bytes(b""),
        r"\.DS_Store is not in INDEX\.json: remove it",
    ),
    "a link outside": (link_outside, r"weights\.pt is a link that leads out of copy"),
    "a folder outside": (folder_outside, r"org/tiny is a link that leads out of copy"),
    "a licence outside": (licence_outside, "LICENSE is a link that leads out of copy"),
    "a pipe": (pipe, "NOTICE is not a regular file"),
    "an endless file": (endless, "NOTICE is a link that leads out"),
    "the digest of the provenance": (
        lambda root: (root / LENS / "provenance.json.sha256").write_bytes(b"0" * 64),
        r"provenance\.json\.sha256 was altered",
    ),
    "a verdict in the provenance alone": (
        lambda root: provenance_and_index(root, "acceptance", json.loads(json.dumps(asdict(make_acceptance(True))))),
        r"has a verdict of the gates, but there is no gates\.json",
    ),
    "swapped": (swap, r"org/(tiny|small) holds the tuned lens of org/(tiny|small), but INDEX\.json lists org/"),
    "swapped with hashes": (swap_and_index, r"holds the tuned lens of org/"),
    "licence": (lambda root: (root / "LICENSES" / TINY / "LICENSE").write_text("Yours."), "LICENSE was altered"),
    "no licence": (lambda root: (root / "LICENSES" / TINY / "LICENSE").unlink(), "LICENSE is missing"),
    "no hash of the licence": (
        lambda root: edit(root / "INDEX.json", lambda index: index["licences"].clear()),
        r"lists LICENSES/org/tiny/LICENSE without a hash",
    ),
    "path outside": (
        lambda root: entry_edit(root, lambda entry: entry.update(path="../tiny")),
        r"org/tiny, has its files at '\.\./tiny', but they must be at tuned_lenses/org/tiny",
    ),
    "another's path": (
        lambda root: entry_edit(root, lambda entry: entry.update(path=f"tuned_lenses/{SMALL}")),
        "but they must be at tuned_lenses/org/tiny",
    ),
    "name outside": (
        lambda root: entry_edit(root, lambda entry: entry["sha256"].update({"../../x": "0" * 64})),
        r"lists the file '\.\./\.\./x', which may be outside its folder",
    ),
    "absolute name": (
        lambda root: entry_edit(root, lambda entry: entry["sha256"].update({"C:\\x": "0" * 64})),
        "which may be outside its folder",
    ),
    "licence outside": (
        lambda root: entry_edit(root, lambda entry: entry["licence"].update(files=["LICENSES/org/tiny/../../../x"])),
        r"lists the file '\.\.', which may be outside its folder",
    ),
    "licence elsewhere": (
        lambda root: edit(root / "INDEX.json", lambda index: index["licences"].update({"weights.pt": "0" * 64})),
        "lists 'weights.pt', which is not under LICENSES/",
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
        r"gates\.json and INDEX\.json disagree on the gates' verdict",
    ),
    "size": (
        lambda root: entry_edit(root, lambda entry: entry.update(num_bytes=entry["num_bytes"] + 1)),
        r"bytes, but INDEX\.json records \d+: fetch it again",
    ),
    "schema of the provenance": (
        lambda root: provenance_and_index(root, "unknown", "field"),
        r"provenance\.json has the unknown field unknown",
    ),
}


def test_a_copy_as_it_was_published_is_accepted(root: Path) -> None:
    verify(root)
    refuse_foreign_files(root, read_index(root))


@pytest.mark.parametrize(
    "path",
    ["evil.py", ".hidden", "tuned_lenses/.evil/x", "LICENSES/more", f"{LENS}/.x.partial", "x/INDEX.json"],
)
def test_a_file_that_the_index_does_not_name_is_refused_wherever_it_lies(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"")
    with pytest.raises(InputError, match=rf"{re.escape(path)} is not in INDEX\.json: remove it"):
        refuse_foreign_files(root, read_index(root))


def test_what_git_and_the_hubs_client_keep_at_the_root_is_theirs_and_a_link_outside_is_not(root: Path) -> None:
    for folder in (".git", ".cache"):
        (root / folder).mkdir()
        (root / folder / "state").write_bytes(b"")
    (root / ".gitattributes").write_bytes(b"")
    refuse_foreign_files(root, read_index(root))
    (root / "more").symlink_to(root.parent, target_is_directory=True)
    with pytest.raises(InputError, match="more is a link that leads out of copy"):
        refuse_foreign_files(root, read_index(root))


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
