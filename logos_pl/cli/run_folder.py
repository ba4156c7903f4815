"""Folder of a fit's TensorBoard files and checkpoints: `lightning_logs/<model>/version_<k>/`."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal

from logos_pl.artifacts.checkpoint_file import check_checkpoint
from logos_pl.errors import InputError, RunError
from logos_pl.io.files import make_folders, remove_leftovers, take_lock


def new_run_folder(root: Path, model_name: str, create: bool) -> Path:
    """Return the next free `version_<k>` of a model, so that no run writes into the folder of an earlier one.

    Args:
        root: Root folder of the logs.
        model_name: Clean name of the model.
        create: Create the folder. Only the first process does; the others write nothing.

    Raises:
        RunError: The folder cannot be created.
    """
    parent = root / model_name
    earlier = _versions(parent)
    taken = [int(path.name.removeprefix("version_")) for path in earlier]
    if create:
        for path in earlier:  # remnants of runs killed before their first checkpoint
            remove_leftovers(path)
    version = max(taken, default=-1) + 1
    while create:
        try:
            make_folders(parent / f"version_{version}", exist_ok=False)
            break
        except FileExistsError:  # another run was faster
            version += 1
        except OSError as error:
            raise _not_writable(root, error) from error
    return parent / f"version_{version}"


def make_log_folder(root: Path, model_name: str) -> None:
    """Create the folder of a model's TensorBoard files, of which the logger would leave parts behind if it failed.

    Raises:
        RunError: It cannot be created.
    """
    try:
        make_folders(root / model_name)
    except OSError as error:
        raise _not_writable(root, error) from error


def _not_writable(root: Path, error: OSError) -> RunError:
    return RunError(
        f"Cannot write to {os.path.relpath(root)}: {error.strerror}; "
        "fix this, or choose another folder with --trainer.default_root_dir."
    )


def hold_run_folder(folder: Path) -> int:
    """Lock a run's folder, so that no other fit overwrites its checkpoints.

    Returns:
        Descriptor of the lock; the lock ends when it is closed or the process dies.

    Raises:
        InputError: Another fit holds the lock.
        RunError: The folder cannot be opened.
    """
    where = os.path.relpath(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"Cannot open {where}: {error.strerror}; fix this, or start without --ckpt_path.") from error
    if take_lock(descriptor, wait=False) is False:
        os.close(descriptor)
        raise InputError(f"Another fit is writing to {where}: wait for it, or start without --ckpt_path.")
    return descriptor


def discard_run_folder(folder: Path) -> None:
    """Remove the folder of a fit unless it has a checkpoint, and the model's folder if it is then empty."""
    if any(folder.glob("*.ckpt")):
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # not empty: other runs
        folder.parent.rmdir()


def find_checkpoint(root: Path, model_name: str, which: str | Literal["last", "best"]) -> Path:
    """Find the checkpoint given by `--ckpt_path`: `last` or `best` of the newest run, or a path.

    Raises:
        InputError: There is none, or the file is incomplete or was altered.
    """
    if which in ("last", "best"):
        runs = sorted(_versions(root / model_name), key=lambda path: int(path.name.removeprefix("version_")))
        found = [run / f"{which}.ckpt" for run in runs if (run / f"{which}.ckpt").is_file()]
        if not found:
            raise InputError(
                f"There is no {which}.ckpt under {os.path.relpath(root / model_name)}, so there is nothing to resume: "
                "start without --ckpt_path."
            )
        path = found[-1]
    else:
        path = Path(which)
        if not path.is_file():
            raise InputError(f"--ckpt_path {which} is not a file: give `last`, `best` or the path of a checkpoint.")
    check_checkpoint(path)
    return path


def _versions(parent: Path) -> list[Path]:
    return [path for path in parent.glob("version_*") if path.name.removeprefix("version_").isdecimal()]
