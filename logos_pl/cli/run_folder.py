"""Where a fit keeps its TensorBoard files and its checkpoints: `lightning_logs/<model>/version_<k>/`."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal

from logos_pl.artifacts.checkpoint_file import check_checkpoint
from logos_pl.errors import InputError, RunError
from logos_pl.io.files import remove_leftovers, take_lock


def new_run_folder(root: Path, model_name: str, create: bool) -> Path:
    """The next free `version_<k>` of a model; a later run never writes into an earlier one's folder.

    Args:
        root: the folder of all logs.
        model_name: the model's clean name.
        create: make the folder. Only the first process does; the others write nothing into theirs.

    Raises:
        RunError: the folder cannot be made.
    """
    parent = root / model_name
    earlier = _versions(parent)
    taken = [int(path.name.removeprefix("version_")) for path in earlier]
    if create:
        for path in earlier:  # a run that was killed before its first checkpoint never comes back to its folder
            remove_leftovers(path)
    version = max(taken, default=-1) + 1
    while create:
        try:
            (parent / f"version_{version}").mkdir(parents=True)
            break
        except FileExistsError:  # another run took this number between the look and the claim
            version += 1
        except OSError as error:
            raise RunError(
                f"Cannot write to {os.path.relpath(root)}: {error.strerror}; "
                "mend it, or choose another folder with --trainer.default_root_dir."
            ) from error
    return parent / f"version_{version}"


def hold_run_folder(folder: Path) -> int:
    """Keep other fits out of a run's folder while this one writes there: two would take turns at its checkpoints.

    Returns:
        The descriptor that holds it until it is closed; a kill lets it go, too.

    Raises:
        InputError: Another fit holds it.
        RunError: The folder cannot be opened.
    """
    where = os.path.relpath(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"Cannot open {where}: {error.strerror}; mend it, or start without --ckpt_path.") from error
    if take_lock(descriptor, wait=False) is False:
        os.close(descriptor)
        raise InputError(f"Another fit is writing to {where}: wait for it, or start without --ckpt_path.")
    return descriptor


def discard_run_folder(folder: Path) -> None:
    """Remove the folder of a fit that has not begun, and the model's where it is the only one; a checkpoint stays."""
    if any(folder.glob("*.ckpt")):
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # other runs are there
        folder.parent.rmdir()


def find_checkpoint(root: Path, model_name: str, which: str | Literal["last", "best"]) -> Path:
    """The checkpoint meant by `--ckpt_path`: the newest run's `last` or `best`, or a path.

    Raises:
        InputError: there is none, or the file is not a whole checkpoint, or was altered.
    """
    if which in ("last", "best"):
        runs = sorted(_versions(root / model_name), key=lambda path: int(path.name.removeprefix("version_")))
        found = [run / f"{which}.ckpt" for run in runs if (run / f"{which}.ckpt").is_file()]
        if not found:
            raise InputError(
                f"There is no {which}.ckpt under {os.path.relpath(root / model_name)}, so nothing to go on from: "
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
