"""The folder a sweep writes into: `sweeps/run-latest/`, which the next sweep renames to `run-YYYYMMDD-HHMM/` (UTC).

A folder is only ever renamed to a free name, one folder at a time, under a lock: a kill at any moment leaves every
earlier run whole, under its old name or its new one. A sweep holds a lock on `.lock` in its folder while it goes on,
and a kill releases it, so that a run that goes on is told from one that died. Where the system has no such locks
(Windows, some network disks), a `.lock` that exists counts as held; a kill leaves it there, and `note` says so.

In a folder that the user names, several sweeps may write at once if their models differ: there the lock is on
`.output-<model>.lock`. Source: docs/method.md §5.7.
"""

import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from errno import EEXIST, ENOTEMPTY
from pathlib import Path
from typing import Self

from logos_pl.errors import InputError, RunError
from logos_pl.io.files import fcntl, take_lock
from logos_pl.io.parsing import read_text
from logos_pl.sweeps.filenames import CROSS_REPORT
from logos_pl.sweeps.leftovers import already_there, refuse_results, remove_leftovers

LATEST = "run-latest"
LOCK = ".lock"
STARTED = ".started"


class SweepFolder:
    """The folder of one sweep, its own until it is left.

    Attributes:
        path: The folder; it exists and can be written.
        note: A sentence for the user where the folder is not the expected one, else None.
    """

    def __init__(self, path: Path, note: str | None = None, locks: Sequence[tuple[Path, int]] = ()) -> None:
        self.path = path
        self.note = note
        self._locks = list(locks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the next sweep have the folder; a second call does nothing."""
        locks, self._locks = self._locks, []
        for path, descriptor in locks:
            _release(path, descriptor)


def _release(path: Path, descriptor: int) -> None:
    if fcntl is None:  # Windows removes no open file
        os.close(descriptor)
    # Before the lock is released: a moment later the path may be another run's. If the disk refuses, it may stay.
    with suppress(OSError):
        path.unlink()
    if fcntl is not None:
        os.close(descriptor)


def open_sweep_folder(root: Path, now: datetime) -> SweepFolder:
    """An empty `sweeps/run-latest/` under `root`, the earlier one renamed to the time at which it was started.

    Where another sweep is still writing there, nothing is renamed: this one gets `run-YYYYMMDD-HHMM/` of its own, and
    `note` says so.

    Args:
        root: The folder of all logs.
        now: When this sweep starts, with a time zone.

    Raises:
        InputError: A file stands where a folder has to be.
        RunError: The disk refuses; earlier runs are whole.
    """
    sweeps = root / "sweeps"
    with _named_errors(sweeps):
        sweeps.mkdir(parents=True, exist_ok=True)
        with _rotation(sweeps):
            path, note = _new_folder(sweeps, now)
            lock = _begin(path, now)
    return SweepFolder(path, note, [(path / LOCK, lock)])


def open_given_folder(folder: Path, model_names: Sequence[str]) -> SweepFolder:
    """The folder given with `--sweep.out_dir`, made if need be; nothing is renamed.

    Results of the same models are refused rather than replaced: files of two runs, one with a tuned lens and one
    without, would stand beside each other under one name, and what is replaced cannot be had back. Other models'
    results may be there, also while they are being written. What a kill left before it had read a prompt is removed.

    Args:
        folder: Where to write.
        model_names: Clean names of the models that will be swept.

    Raises:
        InputError: Results of one of the models are there, or being written, or a file stands where a folder has to be.
        RunError: The disk refuses.
    """
    locks: list[tuple[Path, int]] = []
    try:
        with _named_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            for name in model_names:
                locks.append(_lock_model(folder, name))
                remove_leftovers(folder, name)
                refuse_results(folder, name)
            if len(model_names) > 1 and os.path.lexists(folder / CROSS_REPORT):
                raise already_there(folder / CROSS_REPORT)
    except BaseException:
        for path, descriptor in locks:
            _release(path, descriptor)
        raise
    return SweepFolder(folder, locks=locks)


def _lock_model(folder: Path, name: str) -> tuple[Path, int]:
    """The lock of one model's files in a folder: its path and its descriptor.

    Raises:
        InputError: Another sweep holds it.
    """
    path = folder / f".output-{name}.lock"
    while True:
        existed = os.path.lexists(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
        taken = take_lock(descriptor, wait=False)
        if taken is None and not existed:
            return path, descriptor
        if taken and _is_at(descriptor, path):
            return path, descriptor
        os.close(descriptor)
        if not taken:
            advice = f" (if none is, delete {os.path.relpath(path)})" if taken is None else ""
            raise InputError(
                f"Another sweep of {name} is writing to {os.path.relpath(folder)}{advice}: wait for it, or choose "
                "another --sweep.out_dir."
            )
        # Its holder has removed it between the two calls: the lock is on a file that no one else can find.


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    where = os.path.relpath(folder)
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"A file stands in the way of the folder {where}: move it away, or choose another one with --sweep.out_dir."
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"Cannot write to {where}: {reason}; mend it, or choose another folder with --sweep.out_dir."
        ) from error


@contextmanager
def _rotation(sweeps: Path) -> Iterator[None]:
    """One process at a time; without locks, the renames below still never overwrite, and `_new_folder` looks again."""
    descriptor = os.open(sweeps / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        take_lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _new_folder(sweeps: Path, now: datetime) -> tuple[Path, str | None]:
    """A new folder, and the sentence that explains a name other than `run-latest`."""
    latest = sweeps / LATEST
    why_not = _why_not_moved(latest)
    if why_not is None:
        _step_aside(latest)
        try:
            latest.mkdir()
        except FileExistsError:  # without locks, another run came in between
            why_not = "another sweep has just begun"
        else:
            return latest, None
    for name in _names(now):
        try:
            (sweeps / name).mkdir()
        except FileExistsError:
            continue
        return sweeps / name, f"{LATEST} is left as it is ({why_not}): this sweep is in {name}."
    raise AssertionError("the names never end")


def _why_not_moved(latest: Path) -> str | None:
    """Why `run-latest` must stay where it is, or None where it may be renamed."""
    try:
        descriptor = os.open(latest / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        taken = take_lock(descriptor, wait=False)
    finally:
        os.close(descriptor)
    if taken is None:
        return f"this disk has no locks, and its {LOCK} says that a sweep goes on; delete that if none does"
    return None if taken else "another sweep is still writing there"


def _step_aside(latest: Path) -> None:
    """Rename `run-latest`, where there is one, to when it was started."""
    if not os.path.lexists(latest):
        return
    for name in _names(_started(latest)):
        if os.path.lexists(latest.with_name(name)):
            continue
        try:
            os.rename(latest, latest.with_name(name))
        except FileNotFoundError:  # without locks, another run has renamed it
            return
        except OSError as error:
            if error.errno in (EEXIST, ENOTEMPTY):  # without locks, another run has taken the name
                continue
            raise
        return


def _started(folder: Path) -> datetime:
    """When a run was started; where that was not written down, when its folder last changed."""
    try:
        return datetime.fromisoformat(read_text(folder / STARTED, 100).strip()).astimezone(UTC)
    except (FileNotFoundError, ValueError, OverflowError, InputError):  # made by hand, or killed before it was written
        return datetime.fromtimestamp(os.lstat(folder).st_mtime, UTC)


def _names(start: datetime) -> Iterator[str]:
    name = f"run-{start.astimezone(UTC):%Y%m%d-%H%M}"
    yield name
    for k in itertools.count(2):
        yield f"{name}-{k}"


def _begin(folder: Path, now: datetime) -> int:
    """Lock a new folder and write down when it was started; the lock's descriptor comes back."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        take_lock(descriptor, wait=False)
        (folder / STARTED).write_text(now.isoformat() + "\n", encoding="utf-8")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
