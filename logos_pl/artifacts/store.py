"""A folder of files that is replaced as a whole: a reader, or a crash at any moment, finds the old one or the new one.

POSIX cannot rename a folder over a full one, so there are two renames, and between them the name stands for nothing:
``.<name>.new`` is built and flushed, ``<name>`` steps aside, ``.<name>.new`` takes the name. What steps aside is called
``.<name>.old`` where it is removed then, and ``.<name>.kept`` where it gets a dated name. Readers fall back on it, and
the next write repairs what a crash has left.

Writers of one folder exclude each other by a lock on the folder above it. Readers take none, as they may have no right
to: ``read_steadily`` reads once more where the folder was replaced meanwhile.
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
from logos_pl.io.files import fsync_file, fsync_folder, real_path, take_lock

Contents = Mapping[str, bytes | memoryview]
T = TypeVar("T")

REPLACED = re.compile(r".+\.replaced-\d{8}-\d{4}(-\d+)?")
"""Name of a folder that holds what was replaced."""
_ASIDE = ("old", "kept")
_ATTEMPTS = 5
_MID_SWAP_SECONDS = 0.05


def find_folder(folder: Path) -> Path:
    """Where the files of ``folder`` are: in it or, after a crash in mid-replacement, in the one that stepped aside.

    Raises:
        InputError: There is neither.
    """
    if folder.is_dir():
        return folder
    if _aside(real_path(folder)) is not None:
        time.sleep(_MID_SWAP_SECONDS)  # a writer that goes on is done by then
    aside = _aside(real_path(folder))
    if folder.is_dir():
        return folder
    if aside is None:
        raise InputError(f"There is no artifact at {os.path.relpath(folder)}: give the folder that holds its files.")
    warnings.warn(
        f"Writing {os.path.relpath(folder)} was interrupted: reading what was there before, from {aside.name}.",
        stacklevel=3,
    )
    return aside


def _aside(target: Path) -> Path | None:
    """What has stepped aside for another folder; None where nothing has."""
    places = (_beside(target, suffix) for suffix in _ASIDE)
    return next((path for path in places if path.is_dir()), None)


def read_steadily(path: Path, read: Callable[[Path], T]) -> T:
    """The result of ``read`` on a folder, repeated where it fails because the folder was replaced meanwhile.

    Args:
        path: The folder.
        read: Takes the folder where the files are.

    Raises:
        InputError: There is no such folder, or ``read`` refuses it as it stands.
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
    """What distinguishes a folder from a later one of the same name; None where there is no folder."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns  # a number may be used again, and not at the same time


def check_destination(folder: Path, known: Set[str]) -> None:
    """Refuse a place that holds anything but an earlier artifact, which a new one may replace.

    Args:
        folder: Where an artifact is to be written.
        known: Names of the files an artifact may consist of.

    Raises:
        InputError: It is a file, a link that leads nowhere, a folder with other files, or within another artifact.
    """
    if os.path.lexists(folder.parent / PROVENANCE_FILE):
        raise InputError(
            f"{os.path.relpath(folder)} would lie within the artifact in {os.path.relpath(folder.parent)}: choose "
            "another folder."
        )
    if folder.is_symlink() and not folder.exists():
        raise InputError(
            f"{os.path.relpath(folder)} is a link that leads nowhere: fix it, remove it, or choose another folder."
        )
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
            f"Cannot write to {os.path.relpath(folder)}: {error.strerror}; fix it, or choose another folder."
        ) from error


def replace_folder(folder: Path, files: Contents) -> None:
    """Make ``folder`` consist of ``files``, as a whole or not at all; what was there is removed.

    Raises:
        RunError: The disk refuses; ``folder`` is as it was, and nothing new is left beside it.
    """
    with _writing(folder) as target:
        _replace(target, files, kept=None)


def replace_and_keep(folder: Path, files: Contents, loses_nothing: Callable[[Path], bool]) -> Path | None:
    """The same, and what was there is kept beside it as ``<name>.replaced-<YYYYMMDD-HHMM>``.

    Args:
        folder: The folder.
        files: Its new files, by name.
        loses_nothing: Whether an earlier folder may be removed, because the new files hold all that it does.

    Returns:
        Where the earlier folder is kept; None where there was none, or it was removed.

    Raises:
        RunError: The disk refuses; ``folder`` is as it was, and nothing new is left beside it.
    """
    with _writing(folder) as target:
        there = target.is_dir() and any(target.iterdir())
        kept = _dated(target) if there and not loses_nothing(target) else None
        _replace(target, files, kept)
        return kept


def rewrite_folder(folder: Path, rewrite: Callable[[Path], Contents]) -> None:
    """Replace a folder by what ``rewrite`` makes of it, while no other writer can interfere.

    Args:
        folder: The folder.
        rewrite: Takes the folder where the files are, and gives the new ones.

    Raises:
        InputError: There is no such folder, or ``rewrite`` refuses it.
        RunError: The disk refuses, or ``rewrite`` does; the folder is as it was.
    """
    with _writing(folder) as target:
        _replace(target, rewrite(find_folder(folder)), kept=None)


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """The folder that a path leads to, with the folder above it locked and the traces of a crash repaired."""
    target = real_path(folder)  # a link to the folder stays a link
    with _saying_that_disk_refuses(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        with _saying_that_disk_refuses(target):
            take_lock(descriptor, wait=True)  # without locks, the renames still leave one whole folder
            _mend(target)
        yield target
    finally:
        os.close(descriptor)


@contextmanager
def _saying_that_disk_refuses(target: Path) -> Iterator[None]:
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
    with _saying_that_disk_refuses(target):
        _build(new, files)
        replaces = _swap(target, new, aside)
        fsync_folder(target.parent)
        if replaces and kept is not None:
            os.rename(aside, kept)
            fsync_folder(target.parent)
    if kept is None:
        shutil.rmtree(aside, ignore_errors=True)  # what stays behind, the next write clears


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}.{suffix}")


def _dated(target: Path) -> Path:
    """A free name for what is replaced now."""
    name = f"{target.name}.replaced-{datetime.now(UTC):%Y%m%d-%H%M}"
    names = (target.with_name(name if k == 1 else f"{name}-{k}") for k in count(1))
    return next(path for path in names if not os.path.lexists(path))


def _mend(target: Path) -> None:
    """Undo or finish what a crash interrupted, without losing the only whole copy or one that was to be kept."""
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
    """Put the new folder in the place of the target; True where there was one, which has stepped aside."""
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
