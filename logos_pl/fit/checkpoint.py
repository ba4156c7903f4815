"""Checkpoints written atomically with a checksum, and callbacks that resume from a moved folder."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes
from logos_pl.errors import RunError, state_of_a_checkpoint
from logos_pl.fit.resume import refuse_other_loops
from logos_pl.io.files import make_folders, replace_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary name in the same folder, flushes it to disk and renames it.

    Lightning stages the file in the system's temporary folder. If that is on another file system, the final move is a
    copy, and a kill during it leaves a truncated checkpoint under the final name.
    """

    has_loaded = False
    """Whether a checkpoint has been read; errors between then and the first step are due to its contents."""

    def load_checkpoint(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Load as Lightning does."""
        read: dict[str, Any] = super().load_checkpoint(*args, **options)
        self.has_loaded = True
        return read

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path` atomically.

        Raises:
            RunError: The file cannot be written, e.g. on a full disk; the previous checkpoint is kept.
        """
        data = checkpoint_bytes(checkpoint)
        target = Path(path)
        try:
            make_folders(target.parent)
            replace_file(target, data)
        except OSError as error:
            raise RunError(
                f"The checkpoint {target.name} could not be written to {os.path.relpath(target.parent)}: "
                f"{error.strerror}; {_what_is_left(target)}."
            ) from error


class Resuming(Callback):
    """Checks a checkpoint's counters, and records when training starts: it has then been restored completely.

    Attributes:
        done: Whether training has started.
    """

    done = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check the counters of Lightning's loops before they are restored.

        Raises:
            InputError: They are incomplete, or do not agree with the step.
        """
        refuse_other_loops(checkpoint, trainer.fit_loop.state_dict())

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set `done`."""
        self.done = True


def _what_is_left(target: Path) -> str:
    """Say how to resume after a checkpoint could not be written."""
    if target.is_file():
        return "the earlier one is intact: fix the disk and resume from it with --ckpt_path last"
    return "there is no earlier one: fix the disk and start again"


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint with a fixed file name, whose best score survives a move of the folder.

    Lightning drops the best score if the checkpoint was written under another absolute path; the next validation
    would then overwrite the best checkpoint.

    Args:
        dirpath: Folder of the file.
        filename: Stem of the file, which is overwritten in place.
        monitor: Logged metric to minimise; None: save after every validation.
    """

    def __init__(self, dirpath: str | Path, filename: str, monitor: str | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            monitor=monitor,
            mode="min",
            save_top_k=1,
            auto_insert_metric_name=False,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self._last_global_step_saved = -1  # Lightning's 0 would skip the validation before step 1

    @property
    def path(self) -> Path:
        """Path of the checkpoint."""
        return Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, with paths in the run's present folder."""
        here = str(self.path)
        with state_of_a_checkpoint("record of checkpoints"):
            moved = {key: here if state_dict[key] else "" for key in ("best_model_path", "kth_best_model_path")}
            scores = list(state_dict["best_k_models"].values())  # one, or none before the first save
            best = {here: scores[0]} if scores else {}
            super().load_state_dict({**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath})
