"""Files that are whole or absent."""

import os
from pathlib import Path


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
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)
