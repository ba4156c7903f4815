"""Atomic writing of files, at once or piece by piece, and locks between processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EAGAIN, EBADF, ENOLCK, ENOSYS, ENOTSUP
from pathlib import Path
from typing import IO, BinaryIO, TextIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def real_path(path: Path) -> Path:
    """A path with its links resolved; circular links are kept, so that opening the path reports them.

    ``Path.resolve`` raises RuntimeError on them before Python 3.13.
    """
    return Path(os.path.realpath(path))


def is_utf8(name: str) -> bool:
    """Whether a file's name is UTF-8: on Linux it may be any bytes, and Python reads others as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def make_folders(folder: Path, exist_ok: bool = True) -> None:
    """Create a folder and its parents; if that fails, those created are removed.

    Args:
        folder: The folder.
        exist_ok: Accept a folder that already exists.

    Raises:
        OSError: It cannot be created, or already exists.
    """
    made: list[Path] = []
    try:
        for path in reversed([path for path in folder.parents if not os.path.lexists(path)]):
            path.mkdir(exist_ok=True)
            made.append(path)
        folder.mkdir(exist_ok=exist_ok)
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):  # another process has begun to use it
                path.rmdir()
        raise


def take_lock(descriptor: int, wait: bool) -> bool | None:
    """Lock an open file or folder until it is closed; a kill releases it, too.

    Args:
        descriptor: The open file or folder.
        wait: Wait while another process has the lock.

    Returns:
        Whether the lock was taken; None if the system or the disk does not support such locks.

    Raises:
        OSError: The disk fails.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (EACCES, EAGAIN):
            return False
        if error.errno in (EBADF, ENOLCK, ENOSYS, ENOTSUP):  # EBADF: NFS cannot lock a file opened read-only
            return None
        raise
    return True


def fsync_file(file: IO[str] | IO[bytes]) -> None:
    """Flush an open file to disk.

    Raises:
        OSError: The disk fails.
    """
    file.flush()
    os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut.

    Raises:
        OSError: The folder cannot be opened or flushed.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path` in one step: a reader, or a crash at any moment, sees the old file or the new one.

    Raises:
        OSError: The file cannot be written; `path` is unchanged and no temporary file is left.
    """
    partial = path.with_name(f".{path.name}.partial")  # a fixed name: the next write replaces what a kill left
    try:
        with _open_locked(partial) as file:
            file.write(data)
            fsync_file(file)
            os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def _open_locked(partial: Path) -> BinaryIO:
    """An empty file to write to, locked so that ``remove_leftovers`` of another process leaves it alone."""
    while True:
        file = partial.open("wb")
        if take_lock(file.fileno(), wait=True) is None:
            return file
        with suppress(FileNotFoundError):  # removed or renamed by the lock's holder, between opening and locking
            if os.path.samestat(os.fstat(file.fileno()), partial.stat()):
                return file
        file.close()


@contextmanager
def text_stream(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file that is written piece by piece and gets its name when the block ends without an exception.

    Until then, and for good after an exception, its content is in `<name>.partial` beside it. Line endings are not
    translated.

    Raises:
        OSError: The file cannot be written, here or at the end of the block.
    """
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        yield file
        fsync_file(file)
    os.replace(partial, path)
    fsync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed calls of ``replace_file`` have left in a folder; files being written are kept."""
    for partial in folder.glob(".*.partial"):
        with suppress(OSError), partial.open("r+b") as file:
            if take_lock(file.fileno(), wait=False):
                partial.unlink()
