"""Early stopping on the mean KL divergence at the depth percentiles."""

from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from logos_pl.errors import state_of_a_checkpoint
from logos_pl.fit.depth_metrics import PERCENTILE_KL
from logos_pl.settings.fit import StoppingSettings


class Validated(NamedTuple):
    """Result of a validation: after which step, and KL(P_final‖P_row) in bits, the mean at the depth percentiles."""

    step: int
    kl_bits: float


class PercentileStopping(EarlyStopping):
    """Stops the fit when the mean KL(P_final‖P_row) at the depth percentiles no longer improves.

    Source: docs/method.md §2.1.

    Args:
        settings: Patience and smallest improvement.

    Attributes:
        start: Validation of the closed-form start; None if there was none.
        best_step: Best validation after a step; None before the first.
    """

    start: Validated | None = None
    best_step: Validated | None = None

    def __init__(self, settings: StoppingSettings) -> None:
        super().__init__(
            monitor=PERCENTILE_KL,
            min_delta=settings.min_delta_bits,
            patience=settings.patience,
            mode="min",
            check_on_train_epoch_end=False,
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the validation, and stop if the patience is exhausted."""
        super().on_validation_end(trainer, pl_module)
        found = Validated(trainer.global_step, float(trainer.callback_metrics[PERCENTILE_KL]))
        if found.step == 0:
            self.start = found
        elif self.best_step is None or found.kl_bits < self.best_step.kl_bits:
            self.best_step = found

    def state_dict(self) -> dict[str, Any]:
        """Counter and best validations, as plain values."""
        validated = {"start": self.start, "best_step": self.best_step}
        return super().state_dict() | {name: None if one is None else tuple(one) for name, one in validated.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them, with the patience of this run."""
        with state_of_a_checkpoint("early stopping"):
            start, best_step = (state_dict[name] for name in ("start", "best_step"))
            self.start = None if start is None else Validated(int(start[0]), float(start[1]))
            self.best_step = None if best_step is None else Validated(int(best_step[0]), float(best_step[1]))
            super().load_state_dict({**state_dict, "patience": self.patience})

    @property
    def has_stopped(self) -> bool:
        """Whether the patience is exhausted."""
        return self.wait_count >= self.patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the resumed checkpoint had exhausted the patience."""
        if self.has_stopped:
            trainer.should_stop = True
