"""Output folder of a sweep: `sweeps/run-latest/`, which the next sweep renames to `run-YYYYMMDD-HHMM/` (UTC).

Folders are renamed under a lock, one at a time, and only to a free name, so a kill at any moment leaves earlier runs
intact. A running sweep holds a lock on `.lock` in its folder, which the system releases when the process dies. On
systems without such locks (Windows, some network disks), an existing `.lock` counts as held; after a kill it remains,
and `note` says so.

In a folder given by the user, sweeps of different models may run at once; there the lock is on
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
from logos_pl.io.files import fcntl, make_folders, take_lock
from logos_pl.io.parsing import read_text
from logos_pl.sweeps.filenames import CROSS_REPORT
from logos_pl.sweeps.leftovers import already_there, refuse_results, remove_leftovers

LATEST = "run-latest"
LOCK = ".lock"
STARTED = ".started"


class SweepFolder:
    """A sweep's folder, locked until closed.

    Attributes:
        path: The folder; it exists and is writable.
        note: Sentence for the user if the folder is not the expected one, else None.
    """

    def __init__(
        self,
        path: Path,
        note: str | None = None,
        locks: Sequence[tuple[Path, int]] = (),
        made: Sequence[Path] = (),
    ) -> None:
        self.path = path
        self.note = note
        self._locks = list(locks)
        self._made = list(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder, and remove it if it was made for this sweep and nothing was written; idempotent."""
        locks, self._locks = self._locks, []
        for path, descriptor in locks:
            _release(path, descriptor)
        _remove_empty(self._made)


def _remove_empty(made: Sequence[Path]) -> None:
    for path in made:
        with suppress(OSError):  # not empty, or never made
            path.rmdir()


def _release(path: Path, descriptor: int) -> None:
    if fcntl is None:  # Windows removes no open file
        os.close(descriptor)
    # Before the lock is released: a moment later the path may be another run's. If it cannot be removed, it may stay.
    with suppress(OSError):
        path.unlink()
    if fcntl is not None:
        os.close(descriptor)


def open_sweep_folder(root: Path, now: datetime) -> SweepFolder:
    """Create an empty `sweeps/run-latest/` under `root`; an earlier one is renamed to its start time.

    If another sweep is still writing there, nothing is renamed: this sweep gets its own `run-YYYYMMDD-HHMM/`, and
    `note` says so.

    Args:
        root: Root folder of the logs.
        now: Start time of this sweep, with time zone.

    Raises:
        InputError: A file is in the place of the folder.
        RunError: The folder cannot be written; earlier runs are intact.
    """
    sweeps = root / "sweeps"
    with _named_errors(sweeps):
        make_folders(sweeps)
        with _rotation(sweeps):
            path, note = _new_folder(sweeps, now)
            lock = _begin(path, now)
    return SweepFolder(path, note, [(path / LOCK, lock)])


def open_given_folder(folder: Path, model_names: Sequence[str]) -> SweepFolder:
    """Open the folder given by `--sweep.out_dir`, created if missing; nothing is renamed.

    Existing results of the same models are an error, since overwriting would mix files of two runs and lose the earlier
    ones. Results of other models may exist or be in progress. Leftovers of a run killed before its first prompt are
    removed.

    Args:
        folder: Output folder.
        model_names: Clean names of the models to sweep.

    Raises:
        InputError: Results of one of the models exist or are being written, or a file is in the place of the folder.
        RunError: The folder cannot be written.
    """
    locks: list[tuple[Path, int]] = []
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        with _named_errors(folder):
            make_folders(folder)
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
        _remove_empty(made)
        raise
    return SweepFolder(folder, locks=locks, made=made)


def _lock_model(folder: Path, name: str) -> tuple[Path, int]:
    """Lock the files of a model in a folder; returns path and descriptor of the lock.

    Raises:
        InputError: Another sweep holds the lock.
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
        # The previous holder removed the file in between, so this lock is on an unlinked file.


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
            f"A file is in the way of the folder {where}: move it away, or choose another one with --sweep.out_dir."
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"Cannot write to {where}: {reason}; fix it, or choose another folder with --sweep.out_dir."
        ) from error


@contextmanager
def _rotation(sweeps: Path) -> Iterator[None]:
    """Lock against concurrent renames; without locks, renames still never overwrite, and `_new_folder` retries."""
    descriptor = os.open(sweeps / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        take_lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _new_folder(sweeps: Path, now: datetime) -> tuple[Path, str | None]:
    """Create a folder; returns it with a sentence that explains a name other than `run-latest`."""
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
    """Reason why `run-latest` must not be renamed, or None."""
    try:
        descriptor = os.open(latest / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        taken = take_lock(descriptor, wait=False)
    finally:
        os.close(descriptor)
    if taken is None:
        return f"this disk has no locks, and its {LOCK} says that a sweep is running; delete it if none is"
    return None if taken else "another sweep is still writing there"


def _step_aside(latest: Path) -> None:
    """Rename `run-latest`, if it exists, to its start time."""
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
    """Start time of a run; if not recorded, the modification time of its folder."""
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
    """Lock a new folder and record the start time; returns the descriptor of the lock."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        take_lock(descriptor, wait=False)
        (folder / STARTED).write_text(now.isoformat() + "\n", encoding="utf-8")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
