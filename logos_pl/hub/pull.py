"""Downloads lenses from the Hub at one commit through huggingface_hub's cache, and verifies them before use."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, hf_hub_download

from logos_pl.artifacts.filenames import PROVENANCE_FILE
from logos_pl.artifacts.sealed import ANY_SIZE, read_file
from logos_pl.artifacts.store import replace_folder
from logos_pl.errors import InputError
from logos_pl.hub.index import Entry, Index, read_index
from logos_pl.hub.layout import INDEX_FILE, KINDS, WORDS, Kind
from logos_pl.hub.verify import artifact_files, licence_files
from logos_pl.io.hub_errors import HubRequest, explaining
from logos_pl.io.parsing import MAX_TEXT_BYTES, parse_json
from logos_pl.lm.sources import clean_name

REPO_TYPE = "dataset"


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit, partly downloaded.

    Attributes:
        repo_id: Id of the repository.
        commit: Commit of all files.
        root: Folder in the cache, laid out as the repository.
        index: Index of the repository.
    """

    repo_id: str
    commit: str
    root: Path
    index: Index

    @property
    def cache(self) -> Path:
        """Folder of the repository in the cache; snapshot files may be links into it."""
        return self.root.parents[1]


class Pulled(NamedTuple):
    """A pulled artifact and its folder; ``is_new`` is False if it was already there."""

    kind: Kind
    model_id: str
    entry: Entry
    folder: Path
    is_new: bool


def open_repository(repo_id: str, revision: str | None = None) -> Snapshot:
    """Open a repository of lenses, downloading only its index.

    Args:
        repo_id: Id of the repository.
        revision: Release, branch or commit; None: main.

    Raises:
        InputError: There is no such repository or revision, it does not hold lenses, or it cannot be reached.
        RunError: The disk or the Hub fails.
    """
    path = fetch_file(repo_id, INDEX_FILE, revision)
    return Snapshot(repo_id, path.parent.name, path.parent, read_index(path.parent))


def fetch_file(repo_id: str, path: str, revision: str | None) -> Path:
    """Download a file of a repository to the cache.

    Raises:
        InputError: It does not exist, or cannot be reached.
        RunError: The disk or the Hub fails.
    """
    missing = f"{path} is not in {repo_id}, although its {INDEX_FILE} lists it: tell its owner."
    if path == INDEX_FILE:
        missing = f"{repo_id} has no {INDEX_FILE}, so it is not a repository of lenses."
    with explaining(HubRequest("lenses", repo_id, revision, missing)):
        return Path(hf_hub_download(repo_id, path, repo_type=REPO_TYPE, revision=revision))


def fetch_artifact(snapshot: Snapshot, kind: Kind, model_id: str) -> dict[str, bytes]:
    """Download and verify the files of one artifact; returns their contents by name.

    Raises:
        InputError: The index has no such artifact, or the files do not match it.
        RunError: The disk or the Hub fails.
    """
    entry = entry_for(snapshot.index, kind, model_id, snapshot.repo_id)
    for name in sorted(entry.sha256):
        fetch_file(snapshot.repo_id, f"{entry.path}/{name}", snapshot.commit)
    return artifact_files(snapshot.root, kind, model_id, entry, snapshot.cache)


def fetch_licences(snapshot: Snapshot, model_ids: Sequence[str]) -> None:
    """Download the licence files of some models to the snapshot's folder."""
    for path in licence_files(snapshot.index, model_ids):
        fetch_file(snapshot.repo_id, path, snapshot.commit)


def entry_for(index: Index, kind: Kind, model_id: str, where: str) -> Entry:
    """Entry of a model's artifact in an index.

    Raises:
        InputError: There is none; the message lists the existing ones.
    """
    entries = index.entries(kind)
    if model_id not in entries:
        there = ", ".join(entries) or "none"
        raise InputError(f"{where} has no {WORDS[kind]} of {model_id}; it has: {there}.")
    return entries[model_id]


def releases(repo_id: str) -> list[str]:
    """Tags of a repository, newest last."""
    with explaining(HubRequest("lenses", repo_id)):
        return sorted(tag.name for tag in HfApi().list_repo_refs(repo_id, repo_type=REPO_TYPE).tags)


def select(index: Index, models: Sequence[str] | None, where: str) -> list[tuple[Kind, str]]:
    """Select the artifacts of some models, of all kinds; None selects all.

    Raises:
        InputError: A model has none, or the index is empty.
    """
    if not any(index.entries(kind) for kind in KINDS):
        raise InputError(f"{where} holds no lens.")
    for model_id in models or ():
        if all(model_id not in index.entries(kind) for kind in KINDS):
            entry_for(index, "tuned_lenses", model_id, where)
    return [(kind, model_id) for kind, model_id, _ in index if models is None or model_id in models]


def pull(snapshot: Snapshot, models: Sequence[str] | None, folder: Path, replace: bool) -> Iterator[Pulled]:
    """Download artifacts to a checkpoint folder; yields each when complete.

    Args:
        snapshot: The repository.
        models: Models whose artifacts to download; None: all.
        folder: Checkpoint folder, with ``tuned_lenses/``, ``prisms/`` and ``jacobians/``.
        replace: Replace other artifacts of the same models.

    Raises:
        InputError: As ``fetch_artifact``, or another file is in the destination of an artifact; none is downloaded.
        RunError: The disk or the Hub fails; each artifact is complete or absent.
    """
    wanted = select(snapshot.index, models, snapshot.repo_id)
    places: dict[Path, str] = {}
    for kind, model_id in wanted:
        place = folder / kind / clean_name(model_id)
        if place in places:
            raise InputError(
                f"{places[place]} and {model_id} would both go to {os.path.relpath(place)}: pull them into two "
                "folders, with --folder."
            )
        places[place] = model_id
        _is_there(place, kind, model_id, snapshot.index.entries(kind)[model_id], replace)
    for kind, model_id in wanted:
        yield _pull_one(snapshot, kind, model_id, folder, replace)


def _pull_one(snapshot: Snapshot, kind: Kind, model_id: str, folder: Path, replace: bool) -> Pulled:
    entry = snapshot.index.entries(kind)[model_id]
    place = folder / kind / clean_name(model_id)
    if _is_there(place, kind, model_id, entry, replace):
        return Pulled(kind, model_id, entry, place, is_new=False)
    replace_folder(place, fetch_artifact(snapshot, kind, model_id))
    return Pulled(kind, model_id, entry, place, is_new=True)


def _is_there(place: Path, kind: Kind, model_id: str, entry: Entry, replace: bool) -> bool:
    """Whether exactly these files already exist.

    Raises:
        InputError: Something else is there and must not be replaced.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return False
    shown = os.path.relpath(place)
    if not (place / PROVENANCE_FILE).is_file():
        raise InputError(f"{shown} exists and is not a {WORDS[kind]}: move it away, or choose another --folder.")
    text = read_file(place / PROVENANCE_FILE, MAX_TEXT_BYTES).decode(errors="replace")
    there = parse_json(text, f"{shown}/{PROVENANCE_FILE}")
    owner = there.get("model_id") if isinstance(there, dict) else None
    if owner != model_id:
        raise InputError(f"{shown} holds the {WORDS[kind]} of {owner}, not of {model_id}: choose another --folder.")
    names = {path.name for path in place.iterdir()}
    same = names == set(entry.sha256) and all(
        hashlib.sha256(read_file(place / name, ANY_SIZE)).hexdigest() == sha256 for name, sha256 in entry.sha256.items()
    )
    if not same and not replace:
        raise InputError(
            f"{shown} holds another {WORDS[kind]} of {model_id} than {entry.tl_version}, yours or from another "
            "release: give --replace to replace it, or choose another --folder."
        )
    return same
