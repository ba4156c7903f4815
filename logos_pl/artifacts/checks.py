"""Checks common to all artifacts: files match their hashes, and the model matches the provenance."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, TypeVar

from logos_pl.artifacts.filenames import CARD_FILE, PROVENANCE_FILE, UNHASHED_FILES
from logos_pl.artifacts.provenance import Described, OfModel
from logos_pl.artifacts.sealed import read_file
from logos_pl.errors import InputError
from logos_pl.io.parsing import MIB
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.sources import clean_name

MAX_FILE_BYTES = 64 * MIB
"""Maximum size in bytes of a file without tensors: card, tables, plots."""

OF_THE_RUN = ("project_version", "git_sha", "environment", "fingerprint", "sha256")
"""Provenance fields that may differ between two runs with the same result."""

T = TypeVar("T", bound=Any)


def check_model(recorded: OfModel, lm: FrozenLM, what: str = "lens") -> None:
    """Check that the model has the full id and commit that the artifact was made for.

    Args:
        recorded: Provenance of the artifact.
        lm: The loaded model.
        what: Kind of artifact, for the message.

    Raises:
        InputError: It does not; both are named.
    """
    if recorded.model_id != lm.model_id:
        same_name = recorded.clean_model_name == clean_name(lm.model_id)
        note = f", although both are called {recorded.clean_model_name}" if same_name else ""
        raise InputError(
            f"The {what} was trained for {recorded.model_id}, not for {lm.model_id}{note}: load {recorded.model_id}, "
            f"or use the {what} of this model."
        )
    if recorded.model_commit != lm.model_commit:
        raise InputError(
            f"The {what} was trained for {lm.model_id} at commit {recorded.model_commit}, but the model is at "
            f"{lm.model_commit}: load that revision of the model, or fit the {what} again."
        )


def refuse_other_owner(there: OfModel, model_id: str, model_commit: str, folder: Path, what: str, option: str) -> None:
    """Check that a folder does not hold an artifact of another model.

    Args:
        there: Provenance of the existing artifact.
        model_id: Model of the new artifact.
        model_commit: Commit of that model, which distinguishes local folders of the same name.
        folder: The folder.
        what: Kind of artifact, for the message.
        option: The option that chooses another folder.

    Raises:
        InputError: Naming both models.
    """
    other_local = model_commit.startswith("sha256:") and there.model_commit != model_commit
    if there.model_id != model_id or other_local:
        raise InputError(
            f"{_shown(folder)} holds the {what} of {there.model_id} at {there.model_commit}, but this run is for "
            f"{model_id} at {model_commit}: choose another {option}, or remove that {what}."
        )


def is_repeated(folder: Path, written: T, read: Callable[[Path], T]) -> bool:
    """Whether an existing artifact equals a new one, so that it can be replaced without a backup.

    The card and fields that vary between identical runs may differ.

    Args:
        folder: Folder of the existing artifact.
        written: Provenance of the new artifact.
        read: Reads a provenance.
    """
    try:
        there = read(folder)
    except InputError:
        return False  # not an artifact that this run may remove
    same_files = _without_card(there) == _without_card(written)
    of_this_run = {name: getattr(written, name) for name in OF_THE_RUN}
    return same_files and dataclasses.replace(there, **of_this_run) == written


def _without_card(provenance: Described) -> dict[str, str]:
    return {name: digest for name, digest in provenance.sha256.items() if name != CARD_FILE}


def read_verified(
    folder: Path, sha256: Mapping[str, str], needed: Set[str], known: Set[str], limits: Mapping[str, int]
) -> dict[str, bytes]:
    """Read and verify files; returns their contents by name, so that they are not read again after verification.

    Args:
        folder: Folder of the files.
        sha256: Hashes recorded in the provenance.
        needed: Names of required files.
        known: Names of allowed files.
        limits: Maximum size in bytes of large files, by name.

    Raises:
        InputError: A file is missing, not a regular file, too large, altered or unknown.
    """
    for name in sorted(needed):
        if name not in sha256:
            raise InputError(f"{PROVENANCE_FILE} has no hash of {name}: fetch the artifact again.")
    files = {}
    for name, recorded in sha256.items():
        if name not in known or name in UNHASHED_FILES:
            raise InputError(
                f"{PROVENANCE_FILE} lists {name!r}, which is not a file of a lens: fetch the artifact again."
            )
        files[name] = read_file(folder / name, limits.get(name, MAX_FILE_BYTES))
        found = hashlib.sha256(files[name]).hexdigest()
        if found != recorded:
            raise InputError(
                f"{_shown(folder / name)} was altered: its sha256 is {found[:12]}…, but {recorded[:12]}… is recorded: "
                "fetch the artifact again."
            )
    return files


def _shown(path: Path) -> str:
    return os.path.relpath(path)
