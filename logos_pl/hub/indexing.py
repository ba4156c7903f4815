"""Builds the index of a folder laid out as on the Hub."""

import dataclasses
import hashlib
import os
from pathlib import Path

from logos_pl.artifacts.filenames import ARTIFACT_FILES
from logos_pl.artifacts.jacobian import JACOBIAN_FILES
from logos_pl.artifacts.prism import PRISM_FILES
from logos_pl.artifacts.sealed import ANY_SIZE, read_file
from logos_pl.errors import InputError
from logos_pl.hub.checkpoints import LocalArtifact, find_artifacts
from logos_pl.hub.index import Entry, Index, Licence, entry_of, read_index
from logos_pl.hub.layout import INDEX_FILE, KINDS, LICENCES_FOLDER, WORDS, Kind, model_path
from logos_pl.hub.reading import read_alone
from logos_pl.hub.verify import check_provenance
from logos_pl.io.files import is_utf8
from logos_pl.io.parsing import MAX_TEXT_BYTES

FILES: dict[Kind, frozenset[str]] = {"tuned_lenses": ARTIFACT_FILES, "prisms": PRISM_FILES, "jacobians": JACOBIAN_FILES}
"""Files allowed in the folder of each kind."""


def index_folder(root: Path, tag: str) -> Index:
    """Build the index of a folder; artifacts unchanged since an earlier index keep version and licence.

    Args:
        root: The folder.
        tag: Release of new or changed artifacts.

    Raises:
        InputError: There is no artifact, one is damaged or in another model's folder, or a licence has a name that
            cannot be recorded.
    """
    before = read_index(root) if (root / INDEX_FILE).exists() else Index(tag)
    paths = [path for path in sorted((root / LICENCES_FOLDER).rglob("*")) if not path.is_dir()]
    strange = next((path for path in paths if not is_utf8(path.name)), None)
    if strange is not None:
        raise InputError(f"{os.path.relpath(strange)} has a name that is not UTF-8: rename it.")
    licences = {
        path.relative_to(root).as_posix(): hashlib.sha256(read_file(path, MAX_TEXT_BYTES)).hexdigest() for path in paths
    }
    index = Index(before.release, licences=licences)
    for artifact in find_artifacts(root):
        entry = _entry(artifact, before, tag, list(licences))
        if artifact.folder != root / entry.path:
            raise InputError(
                f"{os.path.relpath(artifact.folder)} holds the {WORDS[artifact.kind]} of {artifact.model_id}, which "
                f"must be in {entry.path}: move it there."
            )
        index = index.with_entry(artifact.kind, artifact.model_id, entry)
    changed = any(index.entries(kind) != before.entries(kind) for kind in KINDS)
    return dataclasses.replace(index, release=tag) if changed else index


def _entry(artifact: LocalArtifact, before: Index, tag: str, licence_files: list[str]) -> Entry:
    kind, model_id = artifact.kind, artifact.model_id
    paths = sorted(artifact.folder.iterdir())
    for path in paths:
        if path.name not in FILES[kind] or not path.is_file():
            raise InputError(f"{os.path.relpath(path)} is not a file of a {WORDS[kind]}: move it away.")
    files = {path.name: read_file(path, ANY_SIZE) for path in paths}
    check_provenance(kind, files, artifact.folder)
    # Only loading detects non-finite values and shapes that differ from the record.
    read_alone(kind, artifact.folder)
    known = before.entries(kind).get(model_id)
    if known is None:
        own = [path for path in licence_files if path.startswith(f"{LICENCES_FOLDER}/{model_path(model_id)}/")]
        return entry_of(kind, model_id, files, tag, Licence(None, None, own))
    same = entry_of(kind, model_id, files, known.tl_version, known.licence)
    return same if same == known else dataclasses.replace(same, tl_version=tag)
