"""What a fit has really consumed, counted batch by batch and carried through checkpoints."""

from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.data.packed_text import TextBatch


class Counts(NamedTuple):
    """Totals over all processes."""

    steps: int
    sequences: int
    tokens: int
    positions: int
    fewest_sequences_per_step: int
    most_sequences_per_step: int
    fewest_rows_per_step: int
    most_rows_per_step: int


class Ledger(Callback):
    """Counts what each optimiser step was made of, and moves the data cursor past every batch that was trained on.

    Counted, not derived from the settings: the artifact's provenance states these figures, and a wrong accumulation
    or a dropped batch shows in them.
    """

    def __init__(self) -> None:
        self._totals = dict.fromkeys(("steps", "sequences", "tokens", "positions"), 0)
        self._sequences_in_step = 0
        self._sequences_per_step: list[int] = []  # fewest and most; empty before the first step
        self._rows_per_step: list[int] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TextBatch, batch_idx: int
    ) -> None:
        """Count the batch; at the end of an optimiser step, close the step's account."""
        trainer.datamodule.advance(batch.cursors)  # type: ignore[attr-defined]
        self._sequences_in_step += batch.input_ids.shape[0]
        self._totals["sequences"] += batch.input_ids.shape[0]
        self._totals["tokens"] += batch.input_ids.numel()
        self._totals["positions"] += batch.positions.numel()
        if trainer.global_step > self._totals["steps"]:
            self._totals["steps"] += 1
            self._sequences_per_step = _widen(self._sequences_per_step, self._sequences_in_step)
            self._rows_per_step = _widen(self._rows_per_step, outputs["rows"])
            self._sequences_in_step = 0

    def counts(self, trainer: Trainer) -> Counts:
        """Totals over all processes; every process must call this."""
        local = [
            self._totals["sequences"],
            self._totals["tokens"],
            self._totals["positions"],
            *self._sequences_per_step,
        ]
        summed = trainer.strategy.reduce(torch.tensor(local, device=trainer.strategy.root_device), reduce_op="sum")
        sequences, tokens, positions, fewest, most = (int(value) for value in summed.tolist())
        return Counts(self._totals["steps"], sequences, tokens, positions, fewest, most, *self._rows_per_step)

    def state_dict(self) -> dict[str, Any]:
        """The counts, for the checkpoint."""
        return {
            "totals": dict(self._totals),
            "sequences_in_step": self._sequences_in_step,
            "sequences_per_step": list(self._sequences_per_step),
            "rows_per_step": list(self._rows_per_step),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from a checkpoint."""
        self._totals = dict(state_dict["totals"])
        self._sequences_in_step = state_dict["sequences_in_step"]
        self._sequences_per_step = list(state_dict["sequences_per_step"])
        self._rows_per_step = list(state_dict["rows_per_step"])


def _widen(extremes: list[int], value: int) -> list[int]:
    """Fewest and most so far."""
    return [min([*extremes[:1], value]), max([*extremes[1:], value])]
