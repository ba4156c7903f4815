"""Replaces a folder of files atomically: at any moment, readers find the complete old one or the complete new one.

POSIX cannot rename a folder over a non-empty one, so there are two renames: ``.<name>.new`` is written and flushed,
``<name>`` is renamed to ``.<name>.old`` (or ``.<name>.kept`` if it is to be kept under a dated name), and
``.<name>.new`` is renamed to ``<name>``. Between the renames ``<name>`` does not exist; readers then use the renamed
folder, and the next write cleans up after a crash.

Writers lock the parent folder. Readers do not, as they may lack permission: ``read_steadily`` reads again if the folder
was replaced meanwhile.
"""

import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TypeVar

from logos_pl.artifacts.filenames import PROVENANCE_FILE
from logos_pl.errors import InputError, RunError
from logos_pl.io.files import fsync_file, fsync_folder, make_folders, real_path, take_lock

Contents = Mapping[str, bytes | memoryview]
T = TypeVar("T")

REPLACED = re.compile(r".+\.replaced-\d{8}-\d{4}(-\d+)?")
"""Names of folders that were replaced and kept."""
_ASIDE = ("old", "kept")
_ATTEMPTS = 5
_MID_SWAP_SECONDS = 0.05


def find_folder(folder: Path) -> Path:
    """Folder that holds the files: ``folder`` or, after a crash between the two renames, the renamed old one.

    Raises:
        InputError: Neither exists.
    """
    if folder.is_dir():
        return folder
    if _aside(real_path(folder)) is not None:
        time.sleep(_MID_SWAP_SECONDS)  # long enough for a running writer to finish
    aside = _aside(real_path(folder))
    if folder.is_dir():
        return folder
    if aside is None:
        raise InputError(f"There is no artifact at {os.path.relpath(folder)}: give the folder that holds its files.")
    warnings.warn(
        f"Writing {os.path.relpath(folder)} was interrupted: reading the previous version from {aside.name}.",
        stacklevel=3,
    )
    return aside


def _aside(target: Path) -> Path | None:
    """The old folder that was renamed for a replacement; None if there is none."""
    places = (_beside(target, suffix) for suffix in _ASIDE)
    return next((path for path in places if path.is_dir()), None)


def read_steadily(path: Path, read: Callable[[Path], T]) -> T:
    """Result of ``read`` on a folder, retried if it fails because the folder was replaced meanwhile.

    Args:
        path: The folder.
        read: Reads the folder that holds the files.

    Raises:
        InputError: There is no such folder, or ``read`` refuses it.
    """
    for attempt in range(_ATTEMPTS):
        before = _identity(path)
        folder = find_folder(path)
        try:
            return read(folder)
        except InputError:
            if attempt == _ATTEMPTS - 1 or _identity(path) == before:
                raise
    raise AssertionError("the last attempt returns or raises")


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Identity of a folder, which differs for a later one of the same name; None if there is no folder."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns  # inode numbers are reused, but not with the same time


def check_destination(folder: Path, known: Set[str]) -> None:
    """Check that an artifact may be written to a folder: it is free, or holds an earlier artifact.

    Args:
        folder: Destination of the artifact.
        known: Names of the files of an artifact.

    Raises:
        InputError: It is a file, a broken link, a folder with other files, or inside another artifact.
    """
    if os.path.lexists(folder.parent / PROVENANCE_FILE):
        raise InputError(
            f"{os.path.relpath(folder)} would be inside the artifact in {os.path.relpath(folder.parent)}: choose "
            "another folder."
        )
    if folder.is_symlink() and not folder.exists():
        raise InputError(f"{os.path.relpath(folder)} is a broken link: fix it, remove it, or choose another folder.")
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
    """Create ``folder`` if needed and check that files can be written to it.

    Raises:
        RunError: They cannot.
    """
    try:
        make_folders(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"Cannot write to {os.path.relpath(folder)}: {error.strerror}; fix it, or choose another folder."
        ) from error


def replace_folder(folder: Path, files: Contents) -> None:
    """Replace the contents of ``folder`` by ``files`` atomically.

    Raises:
        RunError: The files cannot be written; ``folder`` is unchanged and no temporary files remain.
    """
    with _writing(folder) as target:
        _replace(target, files, kept=None)


def replace_and_keep(folder: Path, files: Contents, loses_nothing: Callable[[Path], bool]) -> Path | None:
    """Like ``replace_folder``, but keep the old folder as ``<name>.replaced-<YYYYMMDD-HHMM>``.

    Args:
        folder: The folder.
        files: Contents of the new files, by name.
        loses_nothing: Tells whether the old folder may be removed because the new files contain everything in it.

    Returns:
        Path of the kept folder; None if there was none or it was removed.

    Raises:
        RunError: The files cannot be written; ``folder`` is unchanged and no temporary files remain.
    """
    with _writing(folder) as target:
        there = target.is_dir() and any(target.iterdir())
        kept = _dated(target) if there and not loses_nothing(target) else None
        _replace(target, files, kept)
        return kept


def rewrite_folder(folder: Path, rewrite: Callable[[Path], Contents]) -> None:
    """Replace a folder by the result of ``rewrite`` on it, under the writers' lock.

    Args:
        folder: The folder.
        rewrite: Reads the folder that holds the files and returns the new ones.

    Raises:
        InputError: There is no such folder, or ``rewrite`` refuses it.
        RunError: The disk or ``rewrite`` fails; the folder is unchanged.
    """
    with _writing(folder) as target:
        _replace(target, rewrite(find_folder(folder)), kept=None)


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """Resolve a path to its folder, with the parent folder locked and leftovers of a crash cleaned up."""
    target = real_path(folder)  # a link to the folder stays a link
    with _reporting_disk_errors(target):
        make_folders(target.parent)
        descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        with _reporting_disk_errors(target):
            take_lock(
                descriptor, wait=True
            )  # on file systems without locks, the renames still leave one complete folder
            _clean_up(target)
        yield target
    finally:
        os.close(descriptor)


@contextmanager
def _reporting_disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        shutil.rmtree(_beside(target, "new"), ignore_errors=True)
        raise RunError(
            f"The artifact {target.name} could not be written to {os.path.relpath(target.parent)}: {reason}; "
            "no incomplete files are left there: fix the disk, or choose another folder, and try again."
        ) from error


def _replace(target: Path, files: Contents, kept: Path | None) -> None:
    new, aside = _beside(target, "new"), _beside(target, "old" if kept is None else "kept")
    with _reporting_disk_errors(target):
        _build(new, files)
        replaces = _swap(target, new, aside)
        fsync_folder(target.parent)
        if replaces and kept is not None:
            os.rename(aside, kept)
            fsync_folder(target.parent)
    if kept is None:
        shutil.rmtree(aside, ignore_errors=True)  # the next write removes what remains


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}.{suffix}")


def _dated(target: Path) -> Path:
    """An unused dated name for the folder that is being replaced."""
    name = f"{target.name}.replaced-{datetime.now(UTC):%Y%m%d-%H%M}"
    names = (target.with_name(name if k == 1 else f"{name}-{k}") for k in count(1))
    return next(path for path in names if not os.path.lexists(path))


def _clean_up(target: Path) -> None:
    """Undo or finish an interrupted replacement, without losing the only complete copy or one to be kept."""
    new, old, kept = (_beside(target, suffix) for suffix in ("new", *_ASIDE))
    for aside in (old, kept):
        if aside.is_dir() and not target.exists():
            os.rename(aside, target)
    if kept.exists():
        os.rename(kept, _dated(target))
    for leftover in (old, new):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _build(new: Path, files: Contents) -> None:
    os.mkdir(new)
    for name, data in files.items():
        with (new / name).open("wb") as file:
            file.write(data)
            fsync_file(file)
    fsync_folder(new)


def _swap(target: Path, new: Path, aside: Path) -> bool:
    """Rename the new folder to the target; returns whether an old one was renamed to ``aside``."""
    replaces = target.exists()
    if replaces:
        os.rename(target, aside)
    try:
        os.rename(new, target)
    except OSError:
        if replaces:
            os.rename(aside, target)
        raise
    return replaces
