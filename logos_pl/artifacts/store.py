"""A folder of files that is replaced as a whole: a reader, or a crash at any moment, finds the old one or the new one.

POSIX cannot rename a folder over a full one, so there are two renames, and between them the name stands for nothing:
``.<name>.new`` is built and flushed, ``<name>`` steps aside as ``.<name>.old``, ``.<name>.new`` takes the name. Readers
fall back on ``.<name>.old``; the next write puts it back before it begins.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Set
from pathlib import Path

from logos_pl.errors import InputError, RunError
from logos_pl.files import fsync_folder


def find_folder(folder: Path) -> Path:
    """Where the files of ``folder`` are: in it or, after a crash in mid-replacement, in the one that stepped aside.

    Raises:
        InputError: There is neither.
    """
    if folder.is_dir():
        return folder
    aside = _old(folder.resolve())
    if not aside.is_dir():
        raise InputError(f"There is no artifact at {os.path.relpath(folder)}: give the folder that holds its files.")
    warnings.warn(
        f"Writing {os.path.relpath(folder)} was interrupted: reading what was there before, from {aside.name}.",
        stacklevel=3,
    )
    return aside


def check_destination(folder: Path, known: Set[str]) -> None:
    """Refuse a place that holds anything but an earlier artifact, which a new one may replace.

    Args:
        folder: Where an artifact is to be written.
        known: Names of the files an artifact may consist of.

    Raises:
        InputError: It is a file, or a folder with other files.
    """
    if not folder.exists():
        return
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in known) if folder.is_dir() else None
    if foreign is None or foreign:
        what = "it is a file" if foreign is None else f"it holds {foreign[0]}, which is not part of an artifact"
        raise InputError(
            f"{os.path.relpath(folder)} cannot be replaced by an artifact: {what}: choose another folder, "
            "or move it away."
        )


def check_writable(folder: Path) -> None:
    """Make ``folder`` if need be, and see that files can be made in it.

    Raises:
        RunError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"Cannot write to {os.path.relpath(folder)}: {error.strerror}; mend it, or choose another folder."
        ) from error


def replace_folder(folder: Path, files: Mapping[str, bytes | memoryview]) -> None:
    """Make ``folder`` consist of ``files``, as a whole or not at all.

    Raises:
        RunError: The disk refuses; ``folder`` is as it was, and nothing new is left beside it.
    """
    target = folder.resolve()  # a link to the folder stays a link
    new, old = target.with_name(f".{target.name}.new"), _old(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear(target, new, old)
        _build(new, files)
        _swap(target, new, old)
        fsync_folder(target.parent)
    except OSError as error:
        reason = error.strerror or error
        shutil.rmtree(new, ignore_errors=True)
        raise RunError(
            f"The artifact {target.name} could not be written to {os.path.relpath(target.parent)}: {reason}; "
            "nothing half-written is left there: mend the disk, or choose another folder, and try again."
        ) from error
    shutil.rmtree(old, ignore_errors=True)  # what stays behind, the next write clears


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _clear(target: Path, new: Path, old: Path) -> None:
    """Undo or finish what a crash left: never lose the only whole copy."""
    if old.exists() and not target.exists():
        os.rename(old, target)
    for leftover in (old, new):
        if leftover.exists():
            shutil.rmtree(leftover)


def _build(new: Path, files: Mapping[str, bytes | memoryview]) -> None:
    os.mkdir(new)
    for name, data in files.items():
        with (new / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    fsync_folder(new)


def _swap(target: Path, new: Path, old: Path) -> None:
    replaces = target.exists()
    if replaces:
        os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        if replaces:
            os.rename(old, target)
        raise
