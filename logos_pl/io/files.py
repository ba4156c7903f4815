"""Files that are whole or absent, whether written at once or piece by piece, and locks between processes."""

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
    """A path with its links resolved; links that lead in a circle stay, so that opening the path says so.

    ``Path.resolve`` raises RuntimeError on them before Python 3.13.
    """
    return Path(os.path.realpath(path))


def is_utf8(name: str) -> bool:
    """Whether a file's name is UTF-8: on Linux it may be any bytes, and Python reads others as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def make_folders(folder: Path, exist_ok: bool = True) -> None:
    """Create a folder and those above it; where that fails, none of them is left.

    Args:
        folder: The folder.
        exist_ok: Accept a folder that is there already.

    Raises:
        OSError: It cannot be created, or is there already.
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
        Whether the lock was taken; None where the system or the disk has no such locks.

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
        if error.errno in (EBADF, ENOLCK, ENOSYS, ENOTSUP):  # EBADF: NFS locks nothing that is open for reading alone
            return None
        raise
    return True


def fsync_file(file: IO[str] | IO[bytes]) -> None:
    """Flush an open file to disk.

    Raises:
        OSError: the disk refuses.
    """
    file.flush()
    os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut.

    Raises:
        OSError: the folder cannot be opened or flushed.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path` in one step: a reader, or a crash at any moment, sees the old file or the new one.

    Raises:
        OSError: the disk refuses; `path` is as it was and nothing is left beside it.
    """
    partial = path.with_name(f".{path.name}.partial")  # one name: what a kill leaves behind, the next write replaces
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
        with suppress(FileNotFoundError):  # removed, or renamed by who had the lock, between opening and locking
            if os.path.samestat(os.fstat(file.fileno()), partial.stat()):
                return file
        file.close()


@contextmanager
def text_stream(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file that is written piece by piece, and has its name once the block has ended without an exception.

    Until then, and for good after an exception, what was written is in `<name>.partial` beside it; line ends stay as
    they are written.

    Raises:
        OSError: the disk refuses, here or at the end of the block.
    """
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        yield file
        fsync_file(file)
    os.replace(partial, path)
    fsync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed calls of ``replace_file`` have left in a folder, but no file that is being written."""
    for partial in folder.glob(".*.partial"):
        with suppress(OSError), partial.open("r+b") as file:
            if take_lock(file.fileno(), wait=False):
                partial.unlink()
