"""Early stopping on the mean KL divergence at the depth percentiles."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from logos_pl.errors import state_of_a_checkpoint
from logos_pl.fit.module import PERCENTILE_KL
from logos_pl.settings.fit import StoppingSettings


class PercentileStopping(EarlyStopping):
    """Stops the fit when the mean KL(P_final‖P_row) at the depth percentiles no longer improves.

    Source: docs/method.md §2.1.

    Args:
        settings: Patience and smallest improvement.
    """

    def __init__(self, settings: StoppingSettings) -> None:
        super().__init__(
            monitor=PERCENTILE_KL,
            min_delta=settings.min_delta_bits,
            patience=settings.patience,
            mode="min",
            check_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counter, with the patience of this run."""
        with state_of_a_checkpoint("early stopping"):
            super().load_state_dict({**state_dict, "patience": self.patience})

    @property
    def has_stopped(self) -> bool:
        """Whether the patience is exhausted."""
        return self.wait_count >= self.patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the resumed checkpoint had exhausted the patience."""
        if self.has_stopped:
            trainer.should_stop = True
