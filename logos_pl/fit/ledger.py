"""Counts the batches that a fit has consumed; the counts are saved in checkpoints."""

from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.data.packed_text import TextBatch
from logos_pl.errors import InputError, state_of_a_checkpoint
from logos_pl.settings.text import TrainingTextSettings

ACCOUNT = "record of the text trained on"


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
    """Counts sequences, tokens and positions of each optimiser step, and advances the data cursor.

    The provenance records these counts. They are counted, not derived from settings, so that a wrong accumulation or a
    dropped batch would show.

    Each process counts its own batches. A checkpoint holds the sums over processes; on resuming, the first process
    continues from them, so the number of processes may change.
    """

    trainer: Trainer

    def __init__(self) -> None:
        self._steps = 0  # over all processes, like the rows; the other counts are per process
        self._own = dict.fromkeys(("sequences", "tokens", "positions"), 0)
        self._sequences_in_step = 0
        self._sequences_of_steps: list[int] = []  # since start or resumption
        self._sequences_before: list[int] = []  # minimum and maximum of earlier steps, over all processes
        self._rows_per_step: list[int] = []
        self._batches_in_step = 0
        self._own_at_step = dict(self._own)
        self._restored: dict[str, int] = {}  # totals of the checkpoint
        self._rewound = 0  # micro-batches of an interrupted step, to subtract from Lightning's counters

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Store the trainer, whose processes are summed over."""
        self.trainer = trainer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the restored counts against the text, which has been restored as well.

        Raises:
            InputError: They contradict each other.
        """
        with state_of_a_checkpoint(ACCOUNT):
            if self._restored:
                _check_text(self._restored, trainer.datamodule.settings)  # type: ignore[attr-defined]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TextBatch, batch_idx: int
    ) -> None:
        """Count the batch; at the end of an optimiser step, also the step."""
        step_is_complete = trainer.global_step > self._steps
        trainer.datamodule.advance(batch.cursors, step_is_complete)  # type: ignore[attr-defined]
        self._batches_in_step += 1
        self._sequences_in_step += batch.input_ids.shape[0]
        self._own["sequences"] += batch.input_ids.shape[0]
        self._own["tokens"] += batch.input_ids.numel()
        self._own["positions"] += batch.positions.numel()
        if step_is_complete:
            self._steps += 1
            self._sequences_of_steps.append(self._sequences_in_step)
            self._rows_per_step = _extremes([*self._rows_per_step, outputs["rows"]])
            self._sequences_in_step = self._batches_in_step = 0
            self._own_at_step = dict(self._own)

    def rewind(self) -> None:
        """Go back to the end of the last optimiser step, for a checkpoint: the current step will be repeated."""
        self._own, self._rewound = dict(self._own_at_step), self._batches_in_step
        self._sequences_in_step = self._batches_in_step = 0

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Subtract the rewound micro-batches from Lightning's counters; those before them count as completed."""
        if self._rewound == 0:
            return
        for counters in ("current", "total"):
            done = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"][counters]
            done.update(dict.fromkeys(done, done["ready"] - self._rewound))

    def counts(self) -> Counts:
        """Totals over all processes; every process must call this."""
        state = self.state_dict()
        return Counts(**state["totals"], **_named("sequences", state), **_named("rows", state))

    def state_dict(self) -> dict[str, Any]:
        """Counts over all processes, for the checkpoint; every process must call this."""
        local = [*self._own.values(), self._sequences_in_step, *self._sequences_of_steps]
        strategy = self.trainer.strategy
        summed = strategy.reduce(torch.tensor(local, device=strategy.root_device), reduce_op="sum").tolist()
        *own, in_step = summed[: len(self._own) + 1]
        return {
            "totals": {"steps": self._steps} | dict(zip(self._own, own, strict=True)),
            "sequences_in_step": in_step,
            "sequences_per_step": _extremes([*self._sequences_before, *summed[len(self._own) + 1 :]]),
            "rows_per_step": list(self._rows_per_step),
            "grad_accum": self.trainer.accumulate_grad_batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts: the first process takes the sums over all processes, the others start at 0."""
        mine = int(self.trainer.is_global_zero)
        with state_of_a_checkpoint(ACCOUNT):
            totals = dict(state_dict["totals"])
            _check(state_dict)
            self._restored = dict(totals)
            self._steps = totals.pop("steps")
            self._own = {name: mine * totals[name] for name in self._own}
            self._own_at_step = dict(self._own)
            self._sequences_in_step = mine * state_dict["sequences_in_step"]
            self._sequences_of_steps = []
            self._sequences_before = list(state_dict["sequences_per_step"])
            self._rows_per_step = list(state_dict["rows_per_step"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Convert Lightning's batch counter if the number of processes has changed.

        Lightning counts micro-batches per process since the last validation and steps at multiples of the accumulation
        factor, which depends on the number of processes.

        Raises:
            InputError: The checkpoint was written inside an optimiser step, whose gradients are lost.
        """
        now = trainer.accumulate_grad_batches
        with state_of_a_checkpoint("count of micro-batches"):
            before = int(checkpoint["callbacks"][self.state_key]["grad_accum"])
            if before == now:
                return
            done = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
            steps, rest = divmod(int(done["ready"]), max(before, 1))
        if rest != 0:
            raise InputError(
                "The checkpoint was written inside an optimiser step: resume it with the same --trainer.devices."
            )
        ready = steps * now
        done.update({name: ready - (done["ready"] - count) for name, count in done.items()})


def _check(state: dict[str, Any]) -> None:
    """Check that the counts are valid and consistent, as the provenance of the lens records them.

    Raises:
        KeyError: One is missing.
        TypeError: One is not an integer.
        ValueError: They contradict each other.
    """
    totals, in_step, of_steps = state["totals"], state["sequences_in_step"], state["sequences_per_step"]
    counts = [*totals.values(), in_step, *of_steps, *state["rows_per_step"]]
    if not all(type(count) is int for count in counts):
        raise TypeError(f"{counts!r} are not all integers")
    steps, sequences = totals["steps"], totals["sequences"]
    if min(counts) < 0 or not len(of_steps) == len(state["rows_per_step"]) == (2 if steps else 0):
        raise ValueError(f"{counts!r}")
    fewest, most = of_steps or (0, 0)
    if not steps * fewest <= sequences - in_step <= steps * most:
        raise ValueError(f"{sequences} sequences in {steps} steps of {fewest} to {most}")


def _check_text(totals: dict[str, int], text: TrainingTextSettings) -> None:
    """Check that tokens and positions are those of the sequences.

    Raises:
        ValueError: They are not.
    """
    sequences = totals["sequences"]
    for name, per_sequence in (("tokens", text.seq_len), ("positions", int(text.positions_per_seq))):
        if totals[name] != sequences * per_sequence:
            raise ValueError(f"{totals[name]} {name} in {sequences} sequences of {per_sequence}")


def _extremes(values: list[int]) -> list[int]:
    """Minimum and maximum; empty for an empty list."""
    return [min(values), max(values)] if values else []


def _named(what: str, state: dict[str, Any]) -> dict[str, int]:
    """Minimum and maximum of a count, by their field names in `Counts`."""
    fewest, most = state[f"{what}_per_step"]
    return {f"fewest_{what}_per_step": fewest, f"most_{what}_per_step": most}
