"""Builds a release from local artifacts, in a folder laid out as on the Hub."""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from logos_pl.artifacts.card import Release, model_card
from logos_pl.artifacts.filenames import CARD_FILE, DEPTH_FIGURE_FILE, NOTICE_FILE, WEIGHTS_FILE
from logos_pl.artifacts.jacobian import jacobian_files, read_jacobian
from logos_pl.artifacts.jacobian_provenance import JacobianProvenance
from logos_pl.artifacts.prism import load_prism, prism_files
from logos_pl.artifacts.prism_provenance import PrismProvenance
from logos_pl.artifacts.sealed import sealed
from logos_pl.artifacts.tuned_lens import load_lenses, read_provenance, verified_files
from logos_pl.errors import InputError
from logos_pl.hub.cards import depth_figure, notice
from logos_pl.hub.checkpoints import LocalArtifact
from logos_pl.hub.index import Entry, Index, Licence, entry_of
from logos_pl.hub.layout import INDEX_FILE
from logos_pl.hub.licences import FoundLicence
from logos_pl.io.files import make_folders

GENERATED = {CARD_FILE, NOTICE_FILE, DEPTH_FIGURE_FILE}
"""Files of a tuned lens that are generated on publishing."""


def release_files(artifact: LocalArtifact, release: Release, licence: Licence) -> dict[str, bytes]:
    """Contents of the published files of an artifact; they depend only on the arguments.

    Raises:
        InputError: The artifact is damaged.
    """
    words = notice(artifact.kind, artifact.model_id, artifact.model_commit, release.version, release.repo_id, licence)
    if artifact.kind == "prisms":
        _, of_prism = load_prism(artifact.folder)  # raises if it cannot be loaded
        return _with_notice(of_prism, prism_files(artifact.folder, of_prism), words)
    if artifact.kind == "jacobians":
        _, of_jacobian = read_jacobian(artifact.folder)
        return _with_notice(of_jacobian, jacobian_files(artifact.folder, of_jacobian), words)
    load_lenses(artifact.folder)  # raises if it cannot be loaded
    provenance = read_provenance(artifact.folder)
    there = verified_files(artifact.folder, provenance)
    files = {name: data for name, data in there.items() if name not in GENERATED}
    if provenance.acceptance is None:
        files[DEPTH_FIGURE_FILE] = depth_figure(provenance.val_kl_bits, provenance.clean_model_name)
    files[CARD_FILE] = model_card(provenance, len(files[WEIGHTS_FILE]), release).encode()
    files[NOTICE_FILE] = words.encode()
    written = dataclasses.replace(provenance, sha256=_hashes(files))
    return files | sealed(written.to_json())


def _with_notice(
    provenance: PrismProvenance | JacobianProvenance, files: dict[str, bytes], words: str
) -> dict[str, bytes]:
    """Contents of the files of a Prism or Jacobian lens, with its NOTICE."""
    files[NOTICE_FILE] = words.encode()
    written = dataclasses.replace(provenance, sha256=_hashes(files))
    return files | sealed(written.to_json())


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


@dataclass(frozen=True)
class Staged:
    """A built release.

    Attributes:
        index: Index of the repository after the release.
        changed: New or changed artifacts.
        unchanged: Artifacts that are already published.
        deleted: Paths that the release removes.
    """

    index: Index
    changed: list[LocalArtifact]
    unchanged: list[LocalArtifact]
    deleted: list[str]


def stage(
    root: Path,
    artifacts: Sequence[LocalArtifact],
    release: Release,
    published: Index | None,
    licences: Mapping[str, FoundLicence],
) -> Staged:
    """Write artifacts, licences and index of a release to a folder; unchanged lenses keep their version.

    Args:
        root: The folder; an earlier release in it is removed.
        artifacts: Artifacts to publish.
        release: Repository and tag.
        published: Index of the repository; None if it is empty.
        licences: Licences by model id.

    Raises:
        InputError: The folder holds something else, or an artifact is damaged.
    """
    _clear(root)
    index = Index(release.version) if published is None else published
    staged = Staged(index, [], [], [])
    for artifact in artifacts:
        entry, files, is_new = _built(artifact, release, published, licences[artifact.model_id].licence)
        (staged.changed if is_new else staged.unchanged).append(artifact)
        for name, data in files.items():
            _write(root / entry.path / name, data)
        before = None if published is None else published.entries(artifact.kind).get(artifact.model_id)
        gone = set() if before is None else before.sha256.keys() - files.keys()
        staged.deleted.extend(f"{entry.path}/{name}" for name in sorted(gone))
        index = index.with_entry(artifact.kind, artifact.model_id, entry)
    texts = {path: data for found in licences.values() for path, data in found.texts.items()}
    for path, data in texts.items():
        _write(root / path, data)
    index = dataclasses.replace(index, licences=dict(sorted((index.licences | _hashes(texts)).items())))
    if staged.changed:
        index = dataclasses.replace(index, release=release.version)
    _write(root / INDEX_FILE, index.to_json().encode())
    return dataclasses.replace(staged, index=index)


def _built(
    artifact: LocalArtifact, release: Release, published: Index | None, licence: Licence
) -> tuple[Entry, dict[str, bytes], bool]:
    """Entry and files of an artifact, and whether they differ from the published ones."""
    kind, model_id = artifact.kind, artifact.model_id
    before = None if published is None else published.entries(kind).get(model_id)
    if before is not None:
        files = release_files(artifact, release._replace(version=before.tl_version), licence)
        if entry_of(kind, model_id, files, before.tl_version, licence) == before:
            return before, files, False
    files = release_files(artifact, release, licence)
    return entry_of(kind, model_id, files, release.version, licence), files, True


def _clear(root: Path) -> None:
    """Remove an earlier staged release.

    Raises:
        InputError: The folder holds something else.
    """
    if root.exists() and any(root.iterdir()) and not (root / INDEX_FILE).is_file():
        raise InputError(f"{os.path.relpath(root)} is in the way of the release to be built: move it away.")
    shutil.rmtree(root, ignore_errors=True)
    make_folders(root)


def _write(path: Path, data: bytes) -> None:
    make_folders(path.parent)
    path.write_bytes(data)
