"""Ends a fit when the KL divergence on held-out text no longer improves by more than its noise."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from logos_pl.errors import state_of_a_checkpoint
from logos_pl.fit.depth_metrics import PERCENTILE_KL
from logos_pl.fit.module import TuningModule
from logos_pl.functional.bootstrap import Interval, bootstrap_interval
from logos_pl.io.terminal import say
from logos_pl.settings.fit import StoppingSettings


class Validated(NamedTuple):
    """Result of a validation: its step, and the mean KL(P_final‖P_row) in bits at the depth percentiles."""

    step: int
    kl_bits: float


class Mark(NamedTuple):
    """The validation that later ones are compared with: the last that improved on its predecessor.

    Attributes:
        step: Step of the validation.
        kl_bits: Mean KL(P_final‖P_row) at the depth percentiles, for each held-out sequence.
    """

    step: int
    kl_bits: Float[Tensor, " seqs"]


def gain_bits(before: Float[Tensor, " seqs"], now: Float[Tensor, " seqs"]) -> Interval:
    """Decrease of the mean, with the paired bootstrap's 95% interval over sequences.

    Both are on the same sequences and positions, so that differences between texts do not count as noise.

    Raises:
        ValueError: The numbers of sequences differ, or a value is not finite.
    """
    if before.shape != now.shape or not len(now):
        raise ValueError(f"{len(now)} sequences cannot be paired with {len(before)}.")
    found = bootstrap_interval(before.double() - now.double(), "mean")
    assert found is not None
    return found


class PercentileStopping(Callback):
    """Stops the fit when the mean KL(P_final‖P_row) at the depth percentiles no longer improves beyond its noise.

    A validation improves if the interval of its gain on the mark lies above 0; it is then the new mark. Gains too small
    to count in one validation add up over several, since the mark stays where it was.

    Source: docs/method.md §2.1.

    Args:
        settings: How many validations in a row may fail to improve.

    Attributes:
        start: Validation of the closed-form start; None if there was none.
        best_step: Best validation after a step; None before the first.
        mark: What the next validation is compared with; None before the first.
        waited: Validations since the mark.
    """

    def __init__(self, settings: StoppingSettings) -> None:
        self.patience = settings.patience
        self.start: Validated | None = None
        self.best_step: Validated | None = None
        self.mark: Mark | None = None
        self.waited = 0
        self._gain: Interval | None = None  # of the last validation of this process

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the validation with the mark, and stop if the patience is exhausted."""
        assert isinstance(pl_module, TuningModule)
        found = Validated(trainer.global_step, float(trainer.callback_metrics[PERCENTILE_KL]))
        if found.step == 0:
            self.start = found
        elif self.best_step is None or found.kl_bits < self.best_step.kl_bits:
            self.best_step = found
        self._gain = self.judge(found.step, pl_module.sequence_kl_bits)
        if trainer.strategy.reduce_boolean_decision(self.has_stopped, all=False):
            trainer.should_stop = True

    def judge(self, step: int, kl_bits: Float[Tensor, " seqs"]) -> Interval | None:
        """Count a validation; returns its gain on the mark, None if it is the first.

        Args:
            step: Step of the validation.
            kl_bits: KL of each held-out sequence.
        """
        gain = None if self.mark is None else gain_bits(self.mark.kl_bits, kl_bits)
        if gain is None or gain.low > 0:
            self.mark, self.waited = Mark(step, kl_bits), 0
        else:
            self.waited += 1
        return gain

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print why the fit stopped early, unless it had already stopped before it was resumed."""
        if self.has_stopped and self._gain is not None and trainer.is_global_zero:
            say(self._reason(self._gain))

    def _reason(self, gain: Interval) -> str:
        assert self.mark is not None
        validations = f"{self.waited} validations" if self.waited > 1 else "a validation"
        return (
            f"stopped: in {validations} since step {self.mark.step} the held-out KL has not improved beyond its noise "
            f"(by {gain.estimate:.4f} bits, 95% interval {gain.low:.4f} to {gain.high:.4f})"
        )

    @property
    def has_stopped(self) -> bool:
        """Whether the patience is exhausted."""
        return self.waited >= self.patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the resumed checkpoint had exhausted the patience."""
        if self.has_stopped:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Mark, count and best validations, as plain values."""
        validated = {"start": self.start, "best_step": self.best_step}
        mark = None if self.mark is None else (self.mark.step, self.mark.kl_bits.tolist())
        plain = {name: None if one is None else tuple(one) for name, one in validated.items()}
        return {"mark": mark, "waited": self.waited, **plain}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; the patience is that of this run."""
        with state_of_a_checkpoint("early stopping"):
            start, best_step, mark = (state_dict[name] for name in ("start", "best_step", "mark"))
            self.start = None if start is None else Validated(int(start[0]), float(start[1]))
            self.best_step = None if best_step is None else Validated(int(best_step[0]), float(best_step[1]))
            self.mark = None if mark is None else Mark(int(mark[0]), torch.tensor(mark[1], dtype=torch.float32))
            self.waited = int(state_dict["waited"])
