"""Is a copy of a repository of lenses what was published? Hashes against the index, provenance against both."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logos_pl.artifacts import plain
from logos_pl.artifacts.names import PROVENANCE_FILE
from logos_pl.artifacts.provenance import Provenance
from logos_pl.errors import InputError
from logos_pl.hub.index import Entry, Index, gates_passed
from logos_pl.hub.layout import INDEX_FILE, WORDS, Kind

if TYPE_CHECKING:
    from logos_pl.artifacts.prism_provenance import PrismProvenance

REMEDY = "fetch it again, and do not use this copy."


def artifact_files(root: Path, kind: Kind, model_id: str, entry: Entry) -> dict[str, bytes]:
    """The files of one artifact by name, read once, so that what was verified is what is used; nothing is unpickled.

    Args:
        root: The folder of the copy.
        kind: Tuned lens or Prism.
        model_id: Its model.
        entry: What the index says of it.

    Raises:
        InputError: A file is missing, altered or too many, the folder is another model's, or its provenance says other
            than the index or the files; named.
    """
    folder = root / entry.path
    provenance_bytes = _read(folder / PROVENANCE_FILE)
    _refuse_other_model(provenance_bytes, kind, model_id, folder)
    files = {name: _read(folder / name) for name in entry.sha256 if name != PROVENANCE_FILE}
    files[PROVENANCE_FILE] = provenance_bytes
    for name, recorded in entry.sha256.items():
        _refuse_altered(files[name], recorded, folder / name)
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in files and path.name[0] != ".")
    if foreign:
        raise InputError(f"{_shown(folder / foreign[0])} is not in {INDEX_FILE}: remove it, or index the folder anew.")
    _cross_check(entry, files, folder)
    check_provenance(kind, files, folder)
    return files


def check_provenance(kind: Kind, files: dict[str, bytes], folder: Path) -> None:
    """Read an artifact's provenance strictly, and compare the hashes in it with the files beside it.

    Args:
        kind: Tuned lens or Prism.
        files: All files of the artifact, by name.
        folder: Where they lie, for the message.

    Raises:
        InputError: It is not what this version writes, or a file is not the one it records; named.
    """
    text = files[PROVENANCE_FILE].decode()
    recorded = (Provenance if kind == "tuned_lenses" else _prism_provenance()).from_json(text).sha256
    beside = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != PROVENANCE_FILE}
    for name in sorted(beside.keys() | recorded.keys()):
        if recorded.get(name) != beside.get(name):
            raise InputError(
                f"{_shown(folder / name)} is not what {PROVENANCE_FILE} records (sha256 {beside.get(name)} and "
                f"{recorded.get(name)}): fit or fetch it again."
            )


def _prism_provenance() -> "type[PrismProvenance]":
    from logos_pl.artifacts.prism_provenance import PrismProvenance  # torch

    return PrismProvenance


def check_licences(root: Path, index: Index, model_ids: Sequence[str]) -> None:
    """Compare the licence files of some models with the index.

    Raises:
        InputError: One is missing or altered, or the index has no hash of it.
    """
    for path in licence_files(index, model_ids):
        if path not in index.licences:
            raise InputError(f"{INDEX_FILE} has no hash of {path}, which it refers to: {REMEDY}")
        _refuse_altered(_read(root / path), index.licences[path], root / path)


def licence_files(index: Index, model_ids: Sequence[str]) -> list[str]:
    """The licence files of some models, by their path from the root."""
    return sorted({path for _, model_id, entry in index if model_id in model_ids for path in entry.licence.files})


def _refuse_other_model(provenance: bytes, kind: Kind, model_id: str, folder: Path) -> None:
    """By its id first: a folder in the place of another's has wrong hashes, too, but that is not what is wrong."""
    given = _plain(provenance, folder)
    if given.get("model_id") != model_id:
        raise InputError(
            f"{_shown(folder)} holds the {WORDS[kind]} of {given.get('model_id')}, and {INDEX_FILE} has {model_id} "
            f"there: {REMEDY}"
        )


def _refuse_altered(data: bytes, recorded: str, path: Path) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != recorded:
        raise InputError(
            f"{_shown(path)} was altered: its sha256 is {found[:12]}…, and {INDEX_FILE} records {recorded[:12]}…: "
            f"{REMEDY}"
        )


def _cross_check(entry: Entry, files: dict[str, bytes], folder: Path) -> None:
    """Provenance and size against the index, field by field."""
    given = _plain(files[PROVENANCE_FILE], folder)
    said: dict[str, tuple[Any, Any]] = {
        "model_commit": (given.get("model_commit"), entry.model_commit),
        "tokenizer_commit": (given.get("tokenizer_commit"), entry.tokenizer_commit),
        "the gates' verdict": (gates_passed(given), entry.gates_passed),
    }
    for what, (provenance, index) in sorted(said.items()):
        if provenance != index:
            raise InputError(
                f"{_shown(folder / PROVENANCE_FILE)} and {INDEX_FILE} disagree on {what} ({provenance} and {index}): "
                f"{REMEDY}"
            )
    num_bytes = sum(len(data) for data in files.values())
    if num_bytes != entry.num_bytes:
        raise InputError(f"{_shown(folder)} has {num_bytes} bytes, and {INDEX_FILE} {entry.num_bytes}: {REMEDY}")


def _plain(provenance: bytes, folder: Path) -> dict[str, Any]:
    path = _shown(folder / PROVENANCE_FILE)
    try:
        given = plain.parse(provenance.decode(), path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {REMEDY}") from error
    if not isinstance(given, dict):
        raise InputError(f"{path} is not a JSON object: {REMEDY}")
    return given


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{_shown(path)} is missing, and {INDEX_FILE} names it: {REMEDY}") from error
    except OSError as error:
        raise InputError(f"{_shown(path)} cannot be read ({error.strerror}): mend it, or fetch it again.") from error


def _shown(path: Path) -> str:
    return os.path.relpath(path)
