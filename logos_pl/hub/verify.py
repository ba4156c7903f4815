"""Verifies a copy of a repository of lenses: hashes and provenances against the index."""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logos_pl.artifacts.filenames import CARD_FILE, GATES_FILE, PROVENANCE_FILE, UNHASHED_FILES
from logos_pl.artifacts.gates_file import check_verdict
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.sealed import sealed_text
from logos_pl.errors import InputError
from logos_pl.hub.index import Entry, Index, commits_of, gates_passed
from logos_pl.hub.layout import INDEX_FILE, WORDS, Kind
from logos_pl.io.files import real_path
from logos_pl.io.parsing import MAX_TEXT_BYTES, parse_json, read_bytes

if TYPE_CHECKING:
    from logos_pl.artifacts.jacobian_provenance import JacobianProvenance
    from logos_pl.artifacts.prism_provenance import PrismProvenance

REMEDY = "fetch it again, and do not use this copy."
AT_ROOT = (INDEX_FILE, CARD_FILE, ".gitattributes")
"""Files at the root that are not in the index; no code reads the card."""
OF_CLIENTS = (".git", ".cache")
"""Folders that git and huggingface_hub create at the root."""


def artifact_files(
    root: Path, kind: Kind, model_id: str, entry: Entry, links_within: Path | None = None
) -> dict[str, bytes]:
    """Verified contents of an artifact's files, by name, read once so that these bytes are used; none is unpickled.

    Args:
        root: Folder of the copy.
        kind: Kind of lens.
        model_id: Its model.
        entry: Its entry in the index.
        links_within: Parent folder that links in the copy may point to, as in the Hub's cache.

    Raises:
        InputError: A file is missing, altered, not in the index or outside the folder, the folder holds another model's
            lens, or its provenance contradicts the index or the files; named.
    """
    folder = root / entry.path
    _refuse_links_outside(folder, links_within or root)
    read = partial(_read, most=entry.num_bytes, within=links_within or root)
    provenance_bytes = read(folder / PROVENANCE_FILE)
    _refuse_other_model(provenance_bytes, kind, model_id, folder)
    files = {name: read(folder / name) for name in entry.sha256 if name != PROVENANCE_FILE}
    files[PROVENANCE_FILE] = provenance_bytes
    for name, recorded in entry.sha256.items():
        _refuse_altered(files[name], recorded, folder / name)
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in files)
    if foreign:
        raise InputError(f"{_shown(folder / foreign[0])} is not in {INDEX_FILE}: remove it, or index the folder anew.")
    _cross_check(entry, model_id, files, folder)
    check_provenance(kind, files, folder)
    return files


def check_provenance(kind: Kind, files: dict[str, bytes], folder: Path) -> None:
    """Parse an artifact's provenance strictly and compare it with the other files.

    Args:
        kind: Kind of lens.
        files: Contents of all files of the artifact, by name.
        folder: Their folder, for the message.

    Raises:
        InputError: It has another format or does not match its hash, a file does not match it, or its verdict differs
            from ``gates.json``; named.
    """
    text = sealed_text(files, folder)
    provenance = _provenance_of(kind).from_json(text)
    recorded = provenance.sha256
    beside = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name not in UNHASHED_FILES}
    for name in sorted(beside.keys() | recorded.keys()):
        if recorded.get(name) != beside.get(name):
            raise InputError(
                f"{_shown(folder / name)} does not match {PROVENANCE_FILE} (sha256 {beside.get(name)} and "
                f"{recorded.get(name)}): fit or fetch it again."
            )
    if isinstance(provenance, Provenance):
        check_verdict(provenance, files)


def refuse_foreign_files(root: Path, index: Index) -> None:
    """Check that a copy holds only files in its index; hidden files and links count, too.

    Args:
        root: Folder of the copy.
        index: Its index.

    Raises:
        InputError: It holds another file, or a link that leads outside; named.
    """
    known = {*AT_ROOT, *index.licences}
    for _, _, entry in index:
        known |= {f"{entry.path}/{name}" for name in entry.sha256}
    for place, folders, names in os.walk(root):
        here = Path(place)
        if here == root:
            folders[:] = [name for name in folders if name not in OF_CLIENTS]
        for path in [here / name for name in (*folders, *names)]:
            _refuse_links_outside(path, root)
        for name in sorted(names):
            if (here / name).relative_to(root).as_posix() not in known:
                raise InputError(f"{_shown(here / name)} is not in {INDEX_FILE}: remove it, or index the folder anew.")


def _provenance_of(kind: Kind) -> "type[Provenance | PrismProvenance | JacobianProvenance]":
    if kind == "tuned_lenses":
        return Provenance
    from logos_pl.artifacts.jacobian_provenance import JacobianProvenance  # torch
    from logos_pl.artifacts.prism_provenance import PrismProvenance

    return PrismProvenance if kind == "prisms" else JacobianProvenance


def check_licences(root: Path, index: Index, model_ids: Sequence[str], links_within: Path | None = None) -> None:
    """Compare the licence files of some models with the index; arguments as in ``artifact_files``.

    Raises:
        InputError: One is missing, outside the copy or altered, or the index has no hash of it.
    """
    for path in licence_files(index, model_ids):
        if path not in index.licences:
            raise InputError(f"{INDEX_FILE} lists {path} without a hash: {REMEDY}")
        data = _read(root / path, MAX_TEXT_BYTES, links_within or root)
        _refuse_altered(data, index.licences[path], root / path)


def licence_files(index: Index, model_ids: Sequence[str]) -> list[str]:
    """Paths of the licence files of some models, from the root."""
    return sorted({path for _, model_id, entry in index if model_id in model_ids for path in entry.licence.files})


def _refuse_other_model(provenance: bytes, kind: Kind, model_id: str, folder: Path) -> None:
    """Check the model before the hashes, which would also differ if two folders were swapped."""
    given = _plain(provenance, folder)
    if given.get("model_id") != model_id:
        raise InputError(
            f"{_shown(folder)} holds the {WORDS[kind]} of {given.get('model_id')}, but {INDEX_FILE} lists {model_id} "
            f"there: {REMEDY}"
        )


def _refuse_altered(data: bytes, recorded: str, path: Path) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != recorded:
        raise InputError(
            f"{_shown(path)} was altered: its sha256 is {found[:12]}…, but {INDEX_FILE} records {recorded[:12]}…: "
            f"{REMEDY}"
        )


def _cross_check(entry: Entry, model_id: str, files: dict[str, bytes], folder: Path) -> None:
    """Compare provenance, verdict and size with the index."""
    commit, tokenizer_commit = commits_of(files[PROVENANCE_FILE], _shown(folder / PROVENANCE_FILE))
    said: dict[str, tuple[Any, Any]] = {
        "model_commit": (commit, entry.model_commit),
        "tokenizer_commit": (tokenizer_commit, entry.tokenizer_commit),
        "the gates' verdict": (gates_passed(files, model_id, commit), entry.gates_passed),
    }
    for what, (found, index) in sorted(said.items()):
        if found != index:
            source = GATES_FILE if what == "the gates' verdict" else PROVENANCE_FILE
            raise InputError(
                f"{_shown(folder / source)} and {INDEX_FILE} disagree on {what} ({found} and {index}): {REMEDY}"
            )
    num_bytes = sum(len(data) for data in files.values())
    if num_bytes != entry.num_bytes:
        raise InputError(
            f"{_shown(folder)} has {num_bytes} bytes, but {INDEX_FILE} records {entry.num_bytes}: {REMEDY}"
        )


def _plain(provenance: bytes, folder: Path) -> dict[str, Any]:
    path = _shown(folder / PROVENANCE_FILE)
    try:
        given = parse_json(provenance.decode(), path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {REMEDY}") from error
    if not isinstance(given, dict):
        raise InputError(f"{path} is not a JSON object: {REMEDY}")
    return given


def _read(path: Path, most: int, within: Path) -> bytes:
    """Contents of a regular file of bounded size that is inside a folder after resolving links."""
    try:
        _refuse_links_outside(path, within)
        return read_bytes(path, most)
    except FileNotFoundError as error:
        raise InputError(f"{_shown(path)} is missing, although {INDEX_FILE} lists it: {REMEDY}") from error
    except OSError as error:
        raise InputError(f"{_shown(path)} cannot be read ({error.strerror}); fix it, or fetch it again.") from error


def _refuse_links_outside(path: Path, within: Path) -> None:
    if not real_path(path).is_relative_to(real_path(within)):
        raise InputError(f"{_shown(path)} is a link that leads out of {_shown(within)}: {REMEDY}")


def _shown(path: Path) -> str:
    return os.path.relpath(path)
