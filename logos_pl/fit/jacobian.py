"""LightningModule that fits a Jacobian lens: sums gradients over text and validates the mean on held-out text."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from logos_pl.data.packed_text import TextBatch
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError, RunError
from logos_pl.functional.mean_jacobian import JacobianSums, add_gradients, empty_sums, mean_jacobian, probed_dimensions
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.row_gradients import mean_gradients
from logos_pl.modules.base import LensModule
from logos_pl.settings.jacobian import JacobianSettings
from logos_pl.settings.model import ModelSettings


class JacobianModule(LensModule):
    """Reads the text once, one forward pass and some backward passes for each micro-batch; nothing is trained.

    The lens is always applied before the final norm, so the norm lens beside it uses the final norm, too.

    Args:
        model: Options of the frozen model and its head.
        jacobian: Options of the fit.
        seed: Seed of the choice of output dimensions for each sequence.

    Attributes:
        sums: Gradients summed so far.
        num_sequences: Sequences read completely.
        probes_done: Output dimensions of the current micro-batch that are in the sums already.
        after_probe: Called after each backward pass; may raise to stop.
    """

    def __init__(self, model: ModelSettings, jacobian: JacobianSettings, seed: int) -> None:
        super().__init__(replace(model, decoding_norm="final"))
        self.automatic_optimization = False
        self.untrained = nn.Parameter(torch.zeros(()))  # Lightning wants a parameter
        self.jacobian, self.seed = jacobian, seed
        self.num_sequences, self.probes_done = 0, 0
        self.after_probe: Callable[[], None] = lambda: None

    sums: JacobianSums
    probes: int

    def build(self, lm: FrozenLM) -> None:
        """Prepare the sums for a loaded model.

        Raises:
            InputError: There are more probes than dimensions, or too few to measure every dimension twice.
        """
        width, wanted = lm.d_model, self.jacobian.probes
        self.probes = width if wanted == "all" else wanted
        if self.probes > width:
            raise InputError(
                f"--jacobian.probes {self.probes} is more than the {width} dimensions of {lm.model_id}: give at most "
                "that, or `all`."
            )
        least = 2 * -(-width // self.probes)
        if self.jacobian.sequences < least:
            raise InputError(
                f"--jacobian.sequences {self.jacobian.sequences} with --jacobian.probes {self.probes} measure some of "
                f"the {width} dimensions less than twice, so the error cannot be estimated: give at least {least} "
                "sequences, or more probes."
            )
        super().build(lm)
        self.sums = empty_sums(lm.num_blocks, width, lm.device)

    @property
    def data(self) -> TrainingText:
        """Data module of the text."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return no optimiser."""
        return []

    def training_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Add the gradients of a micro-batch, from the first output dimension that is not in the sums yet.

        Raises:
            InputError: The text is exhausted and starts over, so sequences would repeat.
            RunError: Gradients are not finite.
        """
        if any(cursor.pass_index > 0 for cursor in batch.cursors.values()):
            raise InputError(
                f"The text has only {self.num_sequences:,} distinct sequences, but --jacobian.sequences is "
                f"{self.jacobian.sequences:,}: give more text, or a smaller number."
            )
        lm, num_seqs = self.frozen, batch.input_ids.shape[0]
        dims = probed_dimensions(self.seed, self.num_sequences, num_seqs, self.probes, lm.d_model)
        left = dims[:, self.probes_done :]
        for probe, found in enumerate(mean_gradients(lm, batch.input_ids, left, self.jacobian.skip_first)):
            add_gradients(self.sums, found, left[:, probe].to(found.device))
            self.probes_done += 1
            self.after_probe()
        self._refuse_nonfinite()
        self.probes_done = 0
        self.num_sequences += num_seqs
        self.data.advance(batch.cursors)

    def _refuse_nonfinite(self) -> None:
        rows = (~self.sums.squares.isfinite()).any(-1).nonzero().flatten().tolist()
        if rows:
            raise RunError(
                f"The gradients of {self.frozen.model_id} are not finite at rows {rows}: run the model in float32 or "
                "bfloat16 (--model.dtype)."
            )

    def on_validation_epoch_start(self) -> None:
        """Take the mean of the gradients, and validate it beside the norm lens."""
        maps = dict(enumerate(mean_jacobian(self.sums)))
        self.add_lens("jacobian", JacobianLens(self.head, maps))
        self.validate_lenses(self.lenses)

    def on_validation_epoch_end(self) -> None:
        """Take the readings.

        Raises:
            RunError: A value is not finite.
        """
        self.validation = self.take_readings()
