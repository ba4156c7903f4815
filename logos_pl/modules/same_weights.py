"""Warns if two models or revisions of a run are the same: branches on the Hub may all serve the final weights."""

import warnings

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.artifacts.fingerprint import fingerprint, same_model
from logos_pl.artifacts.provenance_schema import Fingerprint
from logos_pl.modules.base import LensModule


class SameWeights(Callback):
    """Compares the fingerprint of the model with those of the models before it in the same run.

    Args:
        seen: Fingerprints of the earlier models, by name; that of this model is added.
    """

    def __init__(self, seen: dict[str, Fingerprint]) -> None:
        self.seen = seen

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare."""
        self._compare(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, unless it is the validation of a fit."""
        self._compare(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare."""
        self._compare(pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare."""
        self._compare(pl_module)

    def _compare(self, module: LightningModule) -> None:
        assert isinstance(module, LensModule)
        lm = module.frozen
        name = lm.clean_model_name
        if name in self.seen:  # added at the start of this fit
            return
        found = fingerprint(lm, module.head)
        twin = next((other for other, of_other in self.seen.items() if same_model(of_other, found)), None)
        self.seen[name] = found
        if twin is not None:
            warnings.warn(
                f"{twin} and {name} have the same fingerprint: both serve the same weights, so their results are of "
                "one model, not two.",
                stacklevel=2,
            )
