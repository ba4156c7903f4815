"""A prism that was fitted before joins the lenses of a sweep or a validation, where there is one."""

import os
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.agreement import gather, together
from logos_pl.artifacts.prism import load_prism
from logos_pl.artifacts.prism_provenance import PrismProvenance
from logos_pl.artifacts.store import find_folder
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.io.terminal import say
from logos_pl.modules.base import LensModule


class PrismImport(Callback):
    """Looks for the prism before the model is loaded, and puts it in place when reading starts.

    Args:
        folder: the artifact.
        how_to_fit: the command that makes one.
        required: refuse to go on without one; otherwise do without.

    Attributes:
        provenance: of the artifact that was read; None without one.
    """

    def __init__(self, folder: Path, how_to_fit: str, required: bool = False) -> None:
        self.folder = folder
        self.how_to_fit = how_to_fit
        self.required = required
        self.found = False
        self.provenance: PrismProvenance | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say whether there is a prism.

        Raises:
            InputError: there is none, and one is required.
        """
        self.found = gather(self._is_there())[0]  # the first process decides; one that cannot read it refuses
        if self.found and trainer.is_global_zero:
            say(f"with the prism of {os.path.relpath(self.folder)}")

    @together
    def _is_there(self) -> bool:
        try:
            find_folder(self.folder)
        except InputError as error:
            if self.required:
                shown = os.path.relpath(self.folder)
                raise InputError(f"There is no prism at {shown}: fit one with `{self.how_to_fit}`.") from error
            return False
        return True

    @together
    def _read(self, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LensModule)
        if self.found:
            lens, self.provenance = load_prism(self.folder, pl_module.frozen, pl_module.decoding_norm, pl_module.head)
            pl_module.add_lens("prism", lens, self.provenance)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the prism in place."""
        self._read(pl_module)
        if self.provenance is not None:
            data: ValidationText = trainer.datamodule  # type: ignore[attr-defined]
            data.refuse_other_share(self.provenance.dataset.held_out_frac)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the prism in place."""
        self._read(pl_module)
