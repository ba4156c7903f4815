"""Checkpoint files that are whole or absent and carry a checksum, and callbacks that resume from a moved folder."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes
from logos_pl.errors import RunError, state_of_a_checkpoint
from logos_pl.io.files import replace_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final name, flushes it to disk and renames it into place.

    Lightning's own writer stages the file in the system's temporary folder; where that is another file system the
    final move is a copy, and a kill in the middle of it leaves half a checkpoint under the final name.
    """

    has_loaded = False
    """Whether a checkpoint has been read: what fails from then to the first step fails over what is in it."""

    def load_checkpoint(self, *args: Any, **options: Any) -> dict[str, Any]:
        """As Lightning reads it."""
        read: dict[str, Any] = super().load_checkpoint(*args, **options)
        self.has_loaded = True
        return read

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path` atomically.

        Raises:
            RunError: the disk is full, read-only or otherwise refuses the file; the previous checkpoint still stands.
        """
        data = checkpoint_bytes(checkpoint)
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(target, data)
        except OSError as error:
            raise RunError(
                f"The checkpoint {target.name} could not be written to {os.path.relpath(target.parent)}: "
                f"{error.strerror}; {_what_is_left(target)}."
            ) from error


class Resuming(Callback):
    """Knows when the first step of a fit begins, and everything of a checkpoint has been taken up.

    Attributes:
        done: Whether it has begun.
    """

    done = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note it."""
        self.done = True


def _what_is_left(target: Path) -> str:
    """What there is to go on from where a checkpoint could not be written."""
    if target.is_file():
        return "an earlier one is whole: mend the disk, and go on from there with --ckpt_path last"
    return "there is none before it: mend the disk, and start anew"


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint with one fixed file name, whose memory of the best score survives a move of the folder.

    Lightning forgets the best score when the checkpoint was written under another absolute path, and the next
    validation then overwrites the best checkpoint with whatever it has.

    Args:
        filename: stem of the file, always overwritten in place.
        monitor: logged metric to minimise, or none to save after every validation.
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
        self._last_global_step_saved = -1  # Lightning's 0 would leave out the start, which is validated before step 1

    @property
    def path(self) -> Path:
        """The one file this callback writes."""
        return Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, with every path taken from where the run is now."""
        here = str(self.path)
        with state_of_a_checkpoint("record of checkpoints"):
            moved = {key: here if state_dict[key] else "" for key in ("best_model_path", "kth_best_model_path")}
            scores = list(state_dict["best_k_models"].values())  # one, or none before the first save
            best = {here: scores[0]} if scores else {}
            super().load_state_dict({**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath})
