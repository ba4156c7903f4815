"""Early stopping on the mean KL divergence at the depth percentiles."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from logos_pl.bounds import check_number
from logos_pl.errors import state_of_a_checkpoint
from logos_pl.modules.tuning import PERCENTILE_KL


class PercentileStopping(EarlyStopping):
    """Stops the fit when the mean percentile KL has not improved for some validations.

    The KL is the one the lens is trained on, KL(P_final‖P_L). Source: docs/method.md §2.1.

    Args:
        patience: validations without improvement before the fit stops.
        min_delta_bits: a smaller decrease than this does not count as an improvement.

    Raises:
        InputError: A number is out of its bounds.
    """

    def __init__(self, patience: int = 3, min_delta_bits: float = 0.0) -> None:
        check_number("--early_stopping.patience", patience, at_least=1)
        check_number("--early_stopping.min_delta_bits", min_delta_bits, at_least=0)
        super().__init__(
            monitor=PERCENTILE_KL,
            min_delta=min_delta_bits,
            patience=patience,
            mode="min",
            check_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting, with the patience of this run rather than the checkpoint's."""
        with state_of_a_checkpoint("early stopping"):
            super().load_state_dict({**state_dict, "patience": self.patience})

    @property
    def has_stopped(self) -> bool:
        """Whether the patience is used up."""
        return self.wait_count >= self.patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once where the checkpoint that is resumed was the one that used up the patience."""
        if self.has_stopped:
            trainer.should_stop = True
