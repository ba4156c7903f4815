"""Validation and test of a lens that was fitted before: the artifact's weights take the place of untrained ones."""

import os
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.artifacts.store import find_folder
from logos_pl.artifacts.tuned_lens import load_tuned_lens
from logos_pl.callbacks.lens_table import print_kl_table
from logos_pl.errors import InputError
from logos_pl.modules.tuning import LensTuning


class LensImport(Callback):
    """Reads the fitted lens before an evaluation, unless a checkpoint was given, and prints the table after it.

    Args:
        folder: the artifact.
        how_to_fit: the command that makes one, for the refusal.
    """

    def __init__(self, folder: Path, how_to_fit: str) -> None:
        self.folder = folder
        self.how_to_fit = how_to_fit

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a missing artifact before the model is loaded.

        Raises:
            InputError: there is none.
        """
        if trainer.ckpt_path is None:
            try:
                find_folder(self.folder)
            except InputError as error:
                where = os.path.relpath(self.folder)
                raise InputError(f"There is no tuned lens at {where}: fit one with `{self.how_to_fit}`.") from error

    def _read(self, trainer: Trainer, module: LensTuning) -> None:
        if trainer.ckpt_path is None:
            lens, _ = load_tuned_lens(self.folder, module.frozen)
            module.adopt(lens)

    def _say(self, trainer: Trainer, module: LensTuning, side: str) -> None:
        if trainer.is_global_zero:
            source = self.folder if trainer.ckpt_path is None else Path(str(trainer.ckpt_path))
            print_kl_table(
                module.validation, f"KL divergence in bits on held-out {side} text, {os.path.relpath(source)}:"
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the fitted lens in place."""
        assert isinstance(pl_module, LensTuning)
        self._read(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        assert isinstance(pl_module, LensTuning)
        self._say(trainer, pl_module, "validation")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the fitted lens in place."""
        assert isinstance(pl_module, LensTuning)
        self._read(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        assert isinstance(pl_module, LensTuning)
        self._say(trainer, pl_module, "test")
