"""Folders of results whose files belong together: written whole or not at all, and never over earlier ones."""

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from logos_pl.errors import InputError, RunError
from logos_pl.io.files import fsync_file, fsync_folder, make_folders


def result_folder(parent: Path, name: str, given: str | None) -> Path:
    """Folder of new results: the one given by the user, or a new one that is named after the time (UTC).

    Args:
        parent: Folder of such results in the log folder.
        name: Name of the model.
        given: Folder given by the user.
    """
    return parent / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}" if given is None else Path(given)


def refuse_results(folder: Path, files: Iterable[str], option: str) -> None:
    """Check that results can be written to a folder: before anything is read, and again at the end.

    Args:
        folder: The folder.
        files: Names of the files that will be written, the most important last, as in ``write_results``.
        option: The option that chooses another folder.

    Raises:
        InputError: The folder holds one of them, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise _in_the_way(folder, option)
    there = [file for file in reversed([*files]) if os.path.lexists(folder / file)]
    if there:
        raise InputError(f"{os.path.relpath(folder)} holds {there[0]} already: choose another {option}.")


def write_results(folder: Path, contents: Mapping[str, bytes], option: str) -> None:
    """Write files that belong together: all of them or, if the disk fails, none and no folder.

    A new folder appears with all files in it. In an existing folder, all are written under other names before the
    first gets its own.

    Args:
        folder: The folder, created if missing.
        contents: Contents of the files by name.
        option: The option that chooses another folder.

    Raises:
        InputError: The folder holds one of the files, or a file is in its place.
        RunError: It cannot be written; nothing is left behind.
    """
    refuse_results(folder, contents, option)
    try:
        if folder.is_dir():
            _write_beside(folder, contents)
        else:
            _write_new(folder, contents)
    except (FileExistsError, NotADirectoryError) as error:
        raise _in_the_way(folder, option) from error
    except OSError as error:
        raise RunError(f"Cannot write to {os.path.relpath(folder)}: {error.strerror or error}; fix it.") from error


def _write_new(folder: Path, contents: Mapping[str, bytes]) -> None:
    above = [path for path in folder.parents if not path.exists()]
    staged = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        make_folders(staged)
        for name, data in contents.items():
            _write(staged / name, data)
        os.rename(staged, folder)
    except BaseException:
        with suppress(OSError):  # a name too long
            shutil.rmtree(staged, ignore_errors=True)
        for path in above:
            with suppress(OSError):  # never made, or another process has begun to use it
                path.rmdir()
        raise
    fsync_folder(folder.parent)


def _write_beside(folder: Path, contents: Mapping[str, bytes]) -> None:
    made: list[Path] = []
    try:
        for name, data in contents.items():
            made.append(folder / f".{name}.partial")
            _write(made[-1], data)
        for name in contents:
            os.replace(folder / f".{name}.partial", folder / name)
            made.append(folder / name)
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    fsync_folder(folder)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        fsync_file(file)


def _in_the_way(folder: Path, option: str) -> InputError:
    return InputError(f"A file is in the way of the folder {os.path.relpath(folder)}: choose another {option}.")
