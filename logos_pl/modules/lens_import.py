"""Validation, test and prediction with a lens that was fitted before: its weights take the place of untrained ones."""

import os
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.agreement import refuse_different, together
from logos_pl.artifacts.checkpoint_file import read_checkpoint
from logos_pl.artifacts.checkpoint_lens import bias_only_in, tuned_of
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.store import find_folder
from logos_pl.artifacts.tuned_lens import load_lenses
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.io.terminal import say
from logos_pl.lenses.tuned import TunedLens
from logos_pl.modules.base import LensModule
from logos_pl.modules.kl_table import print_kl_table


class LensImport(Callback):
    """Reads the fitted lens before an evaluation, unless a checkpoint was given, and prints the table after it.

    Args:
        folder: the artifact; None where a checkpoint was given.
        how_to_fit: the command that makes one.
        required: refuse to go on without one; otherwise say so, and do without.
        name: what the lens is called in a table's title; None: its path.

    Attributes:
        provenance: of the artifact that was read; None without one.
    """

    def __init__(
        self,
        folder: Path | None,
        how_to_fit: str,
        required: bool = True,
        name: str | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.folder = folder
        self.how_to_fit = how_to_fit
        self.required = required
        self.name = name
        self.checkpoint = checkpoint
        self.step = 0
        self.held_out_frac: float | None = None
        self.missing = False
        self.provenance: Provenance | None = None

    @together
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
                if self.required:
                    raise InputError(sentence) from error
                if trainer.is_global_zero:
                    say(sentence)

    def _read(self, trainer: Trainer, module: LensModule) -> None:
        if self.missing:
            return
        if self.folder is not None:
            lens, bias, self.provenance = load_lenses(self.folder, module.frozen, module.head)
        else:  # a checkpoint's lens is read as it would be exported: to the last bit what its artifact gives
            lens, bias = self._of_checkpoint(module)
        module.add_lens("tuned", lens, self.provenance)
        if bias is not None:
            module.add_lens("bias", bias)

    def _of_checkpoint(self, module: LensModule) -> tuple[TunedLens, TunedLens | None]:
        assert self.checkpoint is not None
        read = read_checkpoint(self.checkpoint)
        now, then = module.identity(), read["lens_identity"]
        differing = [
            key for key in ("model_id", "model_commit", "tokenizer_commit", "decoding_norm") if now[key] != then[key]
        ]
        if differing:
            listed = ", ".join(f"{key} {then[key]!r} (asked for: {now[key]!r})" for key in differing)
            raise InputError(f"The checkpoint belongs to another run, with {listed}: give the same settings.")
        self.step = int(read["global_step"])
        self.held_out_frac = read["TrainingText"]["identity"]["held_out_frac"]
        bias = bias_only_in(read)
        return TunedLens(tuned_of(read), module.head), None if bias is None else TunedLens(bias, module.head)

    def _identity(self) -> dict[str, str]:
        """Which lens was read: another run may have replaced it between two processes' looks."""
        return {} if self.provenance is None else {"the lens": str(self.provenance.sha256)}

    @together
    def _read_for_text(self, trainer: Trainer, module: LensModule) -> None:
        self._read(trainer, module)
        share = self.held_out_frac if self.provenance is None else self.provenance.dataset.held_out_frac
        if share is not None:
            data: ValidationText = trainer.datamodule  # type: ignore[attr-defined]
            data.refuse_other_share(share)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the fitted lens in place, the same one in every process."""
        assert isinstance(pl_module, LensModule)
        self._read_for_text(trainer, pl_module)
        refuse_different(self._identity())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        assert isinstance(pl_module, LensModule)
        if trainer.is_global_zero:
            source = self.checkpoint if self.folder is None else self.folder
            assert source is not None
            title = f"KL divergence in bits on held-out validation text, {self.name or os.path.relpath(source)}:"
            print_kl_table(pl_module.validation, title, list(pl_module.validation))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the fitted lens in place, the same one in every process."""
        assert isinstance(pl_module, LensModule)
        self._read_for_text(trainer, pl_module)
        refuse_different(self._identity())

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the fitted lens in place, where there is one."""
        assert isinstance(pl_module, LensModule)
        self._read(trainer, pl_module)
