"""LightningModule of `logos-pl test`: evaluates lenses on held-out text, facts and unspoken intermediates."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.agreement import together
from logos_pl.data.evaluation_text import TestText
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.prompts import PromptBatch
from logos_pl.data.reading_ahead import Stage
from logos_pl.data.unspoken_tokens import UnspokenBatch
from logos_pl.errors import InputError
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.gates.evaluator import GateEvaluator, GateReadings
from logos_pl.gates.unspoken_evaluator import UnspokenEvaluator, UnspokenReadings
from logos_pl.io.progress import Progress
from logos_pl.kinds.registry import evaluated, kind_of, kinds
from logos_pl.lenses.calibration import TemperedLens, fit_temperatures
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lm.residuals import Request, read_in_groups
from logos_pl.modules.base import LensModule
from logos_pl.settings.model import ModelSettings


class GateModule(LensModule):
    """Evaluates lenses and their baselines on all evaluation sets.

    Args:
        settings: Options of the frozen model and its head.

    Attributes:
        evaluator: Metrics of the gates; None until the test starts.
        gate_readings: Measurements merged over processes; None until the test ends.
        unspoken: Reads unspoken intermediates; None until the test starts, or if they are off.
        unspoken_readings: Their ranks merged over processes; None until the test ends, or if they are off.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self.evaluator: GateEvaluator | None = None
        self.gate_readings: GateReadings | None = None
        self.unspoken: UnspokenEvaluator | None = None
        self.unspoken_readings: UnspokenReadings | None = None

    @together
    def on_test_start(self) -> None:
        """Fit the temperatures of the calibration baseline on validation text, and create the evaluator.

        Raises:
            InputError: The lens was fitted without a bias-only lens, or one has no map at a row that the gates need.
        """
        data: TestText = self.trainer.datamodule  # type: ignore[attr-defined]
        if "bias" not in self.lenses:
            raise InputError(
                "The lens was fitted without a bias-only lens, which the gates need as a baseline: "
                "fit it again with --model.bias_only true."
            )
        with_gates = {name: self.lenses[name] for name in evaluated() if name in self.lenses}
        for name, lens in with_gates.items():
            refuse_unread_depths(name, lens)
        norm = NormLens(self.head)
        h = self._validation_residuals(list(data.all_validation_batches()))
        with Progress("fitting the temperatures of the norm lens", shown=self.global_rank == 0):
            inv_tau = fit_temperatures(norm, h, block_bytes=self.settings.block_bytes)
        del h
        lenses = {"norm": norm, "norm_tau": TemperedLens(norm, inv_tau)}
        lenses |= {"bias": self.lenses["bias"]} | with_gates
        self.evaluator = GateEvaluator(self.frozen, lenses, data.prompts, self.settings.block_bytes)
        if data.unspoken is not None:
            # The norm lens with temperatures gives the same ranks as the norm lens.
            named = {kind.name: self.lenses[kind.name] for kind in kinds() if kind.name in self.lenses}
            self.unspoken = UnspokenEvaluator(named, data.unspoken[1].items, self.settings.block_bytes)
        if self.device.type != "mps":  # MPS has no float64, so its sums stay on the CPU
            self.evaluator.to(self.device)

    def _validation_residuals(self, batches: Sequence[TextBatch]) -> Float[Tensor, "rows pos d_model"]:
        """Residuals of every row at the sampled positions; on the CPU, since they are processed in blocks."""
        lm, rows = self.frozen, self.rows
        num_pos = sum(batch.positions.numel() for batch in batches)
        kept = torch.empty(len(rows), num_pos, lm.d_model, dtype=lm.stream_dtype, device="cpu")
        start, seqs = 0, sum(len(batch.input_ids) for batch in batches)
        with Progress("validation text", seqs, "sequences", shown=self.global_rank == 0) as progress:
            for batch, found in read_in_groups(lm, batches, lambda batch: self.request("val", batch)):
                h = found.rows.flatten(1, 2)
                kept[:, start : start + h.shape[1]] = h
                start += h.shape[1]
                progress.advance(len(batch.input_ids))
        return kept

    def request(self, stage: Stage, batch: TextBatch | PromptBatch | UnspokenBatch) -> Request:
        """In a test, what the evaluators read."""
        if stage != "test":
            return super().request(stage, batch)
        if isinstance(batch, UnspokenBatch):
            assert self.unspoken is not None
            return self.unspoken.request(batch)
        assert self.evaluator is not None
        return self.evaluator.request(batch)

    def test_step(
        self, batch: TextBatch | PromptBatch | UnspokenBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Evaluate a batch of text or prompts."""
        assert self.evaluator is not None
        if isinstance(batch, UnspokenBatch):
            assert self.unspoken is not None
            self.unspoken.read(batch, self.given("test", batch))
            return
        if isinstance(batch, TextBatch):
            self.evaluator.read_text(batch, self.given("test", batch))
        else:
            self.evaluator.read_prompts(batch, self.given("test", batch))

    def on_test_epoch_end(self) -> None:
        """Merge the measurements of all processes."""
        assert self.evaluator is not None
        self.gate_readings = self.evaluator.compute()
        if self.unspoken is not None:
            self.unspoken_readings = self.unspoken.compute()


def refuse_unread_depths(name: str, lens: Lens) -> None:
    """Check that a lens reads the rows at which the gates compare lenses.

    Raises:
        InputError: It does not; the message names the rows.
    """
    depths = depth_percentile_rows(lens.head.num_rows - 1)
    missing = [f"{row} ({percent}% depth)" for percent, row in depths.items() if row not in lens.rows]
    if missing:
        raise InputError(
            f"The {kind_of(name).label} has no map for row(s) {', '.join(missing)}, which the gates need: leave it out "
            "of `test`; `predict` and `validate` show the rows that it has."
        )
