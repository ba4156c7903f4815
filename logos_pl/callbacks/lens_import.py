"""Validation and test of a lens that was fitted before: the artifact's weights take the place of untrained ones."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from logos_pl.artifacts.store import find_folder
from logos_pl.artifacts.tuned_lens import load_tuned_lens
from logos_pl.callbacks.lens_table import print_kl_table, print_prompt_table
from logos_pl.data.prompts import PromptBatch
from logos_pl.errors import InputError
from logos_pl.modules.tuning import LensTuning


class LensImport(Callback):
    """Reads the fitted lens before an evaluation, unless a checkpoint was given, and prints the table after it.

    A prediction does without a tuned lens where there is none, and says so.

    Args:
        folder: the artifact; None where a checkpoint was given.
        how_to_fit: the command that makes one.
    """

    def __init__(self, folder: Path | None, how_to_fit: str) -> None:
        self.folder = folder
        self.how_to_fit = how_to_fit
        self.missing = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a missing artifact before the model is loaded.

        Raises:
            InputError: there is none.
        """
        if self.folder is not None:
            try:
                find_folder(self.folder)
            except InputError as error:
                self.missing = True
                sentence = (
                    f"There is no tuned lens at {os.path.relpath(self.folder)}: fit one with `{self.how_to_fit}`."
                )
                if stage != "predict":
                    raise InputError(sentence) from error
                if trainer.is_global_zero:
                    Console(soft_wrap=True).print(sentence, markup=False)

    def _read(self, trainer: Trainer, module: LensTuning) -> None:
        if self.missing:
            del module.lenses["tuned"]
        elif self.folder is not None:
            lens, _ = load_tuned_lens(self.folder, module.frozen)
            module.adopt(lens)

    def _say(self, trainer: Trainer, module: LensTuning, side: str) -> None:
        if trainer.is_global_zero:
            source = Path(str(trainer.ckpt_path)) if self.folder is None else self.folder
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

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the fitted lens in place, or take the untrained one away."""
        assert isinstance(pl_module, LensTuning)
        self._read(trainer, pl_module)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print the prompt's table."""
        assert isinstance(pl_module, LensTuning)
        if trainer.is_global_zero:
            print_prompt_table(outputs, batch, pl_module.frozen.tokenizer)
