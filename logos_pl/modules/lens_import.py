"""Validation, test and prediction with a lens that was fitted before: its weights take the place of untrained ones."""

import os
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.agreement import refuse_different, together
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.store import find_folder
from logos_pl.artifacts.tuned_lens import load_lenses
from logos_pl.data.datamodule import LensDataModule
from logos_pl.errors import InputError
from logos_pl.io.terminal import say
from logos_pl.lenses.tuned import TunedLens
from logos_pl.modules.kl_table import print_kl_table
from logos_pl.modules.tuning import LensTuning


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

    def __init__(self, folder: Path | None, how_to_fit: str, required: bool = True, name: str | None = None) -> None:
        self.folder = folder
        self.how_to_fit = how_to_fit
        self.required = required
        self.name = name
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

    def _read(self, trainer: Trainer, module: LensTuning) -> None:
        if self.missing:
            del module.lenses["tuned"]
            module.adopt_bias_only(None)
        elif self.folder is not None:
            lens, bias_only, self.provenance = load_lenses(self.folder, module.frozen, module.head)
            module.adopt(lens)
            module.adopt_bias_only(bias_only)
        else:  # a checkpoint's lens is read as it would be exported: to the last bit what its artifact gives
            module.adopt(TunedLens(module.average("translators").in_plain_basis(), module.head))

    def _identity(self) -> dict[str, str]:
        """Which lens was read: another run may have replaced it between two processes' looks."""
        return {} if self.provenance is None else {"the lens": str(self.provenance.sha256)}

    @together
    def _read_for_text(self, trainer: Trainer, module: LensTuning) -> None:
        self._read(trainer, module)
        if self.provenance is not None:
            data: LensDataModule = trainer.datamodule  # type: ignore[attr-defined]
            data.refuse_other_share(self.provenance.dataset.held_out_frac)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the fitted lens in place, the same one in every process."""
        assert isinstance(pl_module, LensTuning)
        self._read_for_text(trainer, pl_module)
        refuse_different(self._identity())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        assert isinstance(pl_module, LensTuning)
        if trainer.is_global_zero:
            source = Path(str(trainer.ckpt_path)) if self.folder is None else self.folder
            title = f"KL divergence in bits on held-out validation text, {self.name or os.path.relpath(source)}:"
            print_kl_table(pl_module.validation, title, list(pl_module.validation))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the fitted lens in place, the same one in every process."""
        assert isinstance(pl_module, LensTuning)
        self._read_for_text(trainer, pl_module)
        refuse_different(self._identity())

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the fitted lens in place, or take the untrained one away."""
        assert isinstance(pl_module, LensTuning)
        self._read(trainer, pl_module)
