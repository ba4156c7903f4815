"""Finds the lens of a reference: a lens folder, a folder laid out as on the Hub, or a repository on the Hub."""

import os
from pathlib import Path

from logos_pl.artifacts.filenames import PROVENANCE_FILE
from logos_pl.artifacts.store import find_folder
from logos_pl.errors import InputError
from logos_pl.hub.index import Index, read_index
from logos_pl.hub.layout import INDEX_FILE, REPO_ID
from logos_pl.hub.pull import entry_for, fetch_artifact, open_repository
from logos_pl.hub.verify import artifact_files


def lens_folder(source: str | os.PathLike[str], model_id: str | None = None, revision: str | None = None) -> Path:
    """Folder of a tuned lens. From the Hub, only its files are downloaded; they are verified against the index.

    Args:
        source: A lens folder, a folder laid out as on the Hub, or the id of a repository on the Hub; a folder takes
            precedence.
        model_id: Model of the lens; None if there is only one lens.
        revision: Release, branch or commit on the Hub; None: main.

    Raises:
        InputError: There is no such folder, repository, revision or lens, it cannot be reached, or its files do not
            match the index.
        RunError: The disk or the Hub fails.
    """
    path = Path(source).expanduser()
    try:
        folder = find_folder(path)
    except InputError:
        if not REPO_ID.fullmatch(os.fspath(source)):
            raise
        snapshot = open_repository(os.fspath(source), revision)
        model_id = _whose(snapshot.index, model_id, snapshot.repo_id)
        fetch_artifact(snapshot, "tuned_lenses", model_id)
        return snapshot.root / snapshot.index.tuned_lenses[model_id].path
    if revision is not None:
        raise InputError(f"Revision {revision} cannot be read from {path}, which is a folder: leave it out.")
    if not (folder / INDEX_FILE).is_file():
        if not os.path.lexists(folder / PROVENANCE_FILE):
            raise InputError(
                f"{os.path.relpath(folder)} holds no lens ({PROVENANCE_FILE}) and no {INDEX_FILE}: give the folder of "
                "a lens, such as checkpoints/tuned_lenses/demo, or one laid out as on the Hub."
            )
        return folder
    index = read_index(folder)
    model_id = _whose(index, model_id, os.path.relpath(folder))
    entry = entry_for(index, "tuned_lenses", model_id, os.path.relpath(folder))
    artifact_files(folder, "tuned_lenses", model_id, entry)
    return folder / entry.path


def _whose(index: Index, model_id: str | None, where: str) -> str:
    if model_id is not None:
        entry_for(index, "tuned_lenses", model_id, where)
        return model_id
    if len(index.tuned_lenses) != 1:
        there = ", ".join(index.tuned_lenses) or "none at all"
        raise InputError(
            f"{where} must have exactly one lens if no model_id is given (it has: {there}): give model_id, or the "
            "folder of one that `logos-pl hub pull` has fetched."
        )
    return next(iter(index.tuned_lenses))
