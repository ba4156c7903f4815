"""The Prism lens as Lightning fits it: stream moments, fit the candidates, let held-out text choose among them."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import nn

from logos_pl.agreement import together
from logos_pl.bounds import check_number
from logos_pl.data.datamodule import MAX_TOKENS, LensDataModule
from logos_pl.data.packed_text import TextBatch
from logos_pl.errors import InputError
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.low_rank import check_rank
from logos_pl.functional.moments import MomentStream, reduce_moments
from logos_pl.functional.positions import position_bounds
from logos_pl.functional.whitening import WhiteningKind, check_shrinkage
from logos_pl.lenses.decoding import lens_divergence
from logos_pl.lenses.head import DecodingNorm, Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.prism import PrismLens, fit_prism, whiten_final
from logos_pl.lm.dtypes import Fp32Unembed
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.modules.all_sum import all_sum
from logos_pl.modules.row_means import RowMeans
from logos_pl.modules.tuning import QUANTITIES, Readings, refuse_nonfinite

POOLS = ((0, 25, 50, 75), (25, 50, 75), (50, 75), (75,))
"""Depths that may be pooled, in percent; 0 is the embedding row. Source: docs/method.md §3."""


@dataclass(frozen=True)
class PrismSettings:
    """How a prism is fitted, and where prisms are.

    Args:
        positions: distinct positions of text that the moments are of.
        whiten: whitening of the rows by their `diagonal` or by their `full` covariance; `auto`: whichever has the lower
            held-out divergence.
        rank: directions of the rotation that are kept, those that correlate most with the last row; the others go to
            its mean. `full`: all of them, which makes it orthogonal.
        shrinkage: share of the identity in the covariances; 0 refuses a rank-deficient one.
        folder: folder of the prisms; a model's is in the subfolder named after it. Another prism that is there is kept
            beside it, as <model>.replaced-<YYYYMMDD-HHMM> (UTC).

    Raises:
        InputError: A number is out of its bounds.
    """

    positions: int = 131_072
    whiten: Literal["auto", "diagonal", "full"] = "auto"
    rank: int | Literal["full"] = "full"
    shrinkage: float = 1e-3
    folder: str = "checkpoints/prisms"

    def __post_init__(self) -> None:
        check_number("--prism.positions", self.positions, at_least=1, at_most=MAX_TOKENS)
        check_shrinkage(self.shrinkage)
        if self.rank != "full":
            check_number("--prism.rank", self.rank, at_least=0)


class Candidate(NamedTuple):
    """A way to fit a prism: kind of whitening, depths that are pooled in percent."""

    whiten: WhiteningKind
    depths: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.whiten} {'+'.join(map(str, self.depths))}%"


class PrismFit(LightningModule):
    """Reads text once for its moments, then validates every candidate on held-out text and keeps the best.

    Nothing is trained by gradients. The frozen model is a plain attribute. Source: docs/method.md §3.

    Args:
        settings: The user's.
        model_id: Hub id of a causal language model, a folder with its files, or `demo`.
        revision: Branch, tag or commit of the model on the Hub.
        dtype: Number format the model runs in.
        decoding_norm: Norm in front of the unembedding.
        block_bytes: Upper bound on one block of logits.
        fp32_unembed: Whether the unembedding is held in fp32.

    Raises:
        InputError: The shrinkage is out of bounds.

    Attributes:
        num_sequences: Sequences this process has read.
        num_positions: Positions this process has read, each once.
        chosen: The candidate with the least divergence; None before the validation.
        divergences: By candidate, KL(P_final‖P_L) in bits by depth percentile.
        validation: Held-out means of the norm lens and the chosen prism, as in `LensTuning`.
    """

    def __init__(
        self,
        settings: PrismSettings,
        model_id: str,
        revision: str | None = None,
        dtype: str = "auto",
        decoding_norm: DecodingNorm = "final",
        block_bytes: int = 2**28,
        fp32_unembed: Fp32Unembed = "auto",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        # DDP refuses to wrap a module in which nothing could be trained.
        self.untrained = nn.Parameter(torch.zeros(()))
        self.settings, self.shrinkage = settings, check_shrinkage(settings.shrinkage)
        self.model_id, self.revision, self.dtype_name, self.decoding_norm = model_id, revision, dtype, decoding_norm
        self.block_bytes = block_bytes
        self.fp32_unembed: Fp32Unembed = fp32_unembed
        self.lm: FrozenLM | None = None
        self.num_sequences, self.num_positions = 0, 0
        self.total_positions = 0
        self.prisms: dict[Candidate, PrismLens] = {}
        self.divergences: dict[Candidate, dict[int, float]] = {}
        self.chosen: Candidate | None = None
        self.validation: Readings = {}

    head: Head
    rows: dict[int, int]
    rank: int

    @together
    def configure_model(self) -> None:
        """Load and freeze the model; does nothing the second time.

        Raises:
            InputError: the model cannot be loaded or is not supported, or the rank does not fit it.
        """
        if self.lm is None:
            with torch.device("cpu"):  # as in LensTuning
                self.build(
                    FrozenLM.load(self.model_id, revision=self.revision, dtype=self.dtype_name, device=self.device)
                )

    def build(self, lm: FrozenLM) -> None:
        """Make ready for a loaded model.

        Raises:
            InputError: the rank does not fit the model, or is 0, or the positions are fewer than its width.
        """
        wanted = self.settings.rank
        if wanted == 0:
            raise InputError("--prism.rank 0 would read the same in every row: give 1 or more, or `full`.")
        self.rank = lm.d_model if wanted == "full" else check_rank(wanted, lm.d_model)
        if self.settings.positions <= lm.d_model:
            raise InputError(
                f"--prism.positions {self.settings.positions} is too few for {lm.model_id}, whose width is "
                f"{lm.d_model}: give more than that; 100,000 or more is sensible."
            )
        self.rows = {0: 0} | depth_percentile_rows(lm.num_blocks)
        self.head = Head(lm.anatomy, decoding_norm=self.decoding_norm, fp32_unembed=self.fp32_unembed).to(self.device)
        self._stream = MomentStream(len(self.rows), lm.d_model)
        self.lm = lm

    @property
    def frozen(self) -> FrozenLM:
        """The frozen model; there from `configure_model` on."""
        assert self.lm is not None, "configure_model() has not run yet"
        return self.lm

    def identity(self) -> dict[str, Any]:
        """What has to be the same in every process of the run, as plain values."""
        return {
            "model_id": self.frozen.model_id,
            "model_commit": self.frozen.model_commit,
            "tokenizer_commit": self.frozen.tokenizer_commit,
            "model_dtype": str(self.frozen.dtype),
            "unembed_dtype": str(self.head.unembedding.weight.dtype),
            "decoding_norm": self.decoding_norm,
        }

    @property
    def data(self) -> LensDataModule:
        """The text."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """None: nothing is optimised."""
        return []

    @together
    def training_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Add the moments of every position of the batch within the position range.

        Raises:
            InputError: the text has begun anew: its positions are no longer distinct.
        """
        self.data.advance(batch.cursors)
        if any(cursor.pass_index > 0 for cursor in batch.cursors.values()):
            raise InputError(
                f"The text gives no more than {self.num_positions * self.trainer.world_size:,} distinct positions, and "
                f"--prism.positions asks for {self.settings.positions:,}: give more text, or ask for fewer."
            )
        num_seqs, seq_len = batch.input_ids.shape
        first, last = position_bounds(seq_len, self.data.drawn_range)
        positions = torch.arange(first, last + 1, device=batch.input_ids.device).expand(num_seqs, -1)
        rows = [*self.rows.values(), self.frozen.num_blocks]
        x = self.head.normalise(residuals(self.frozen, batch.input_ids, positions, rows).flatten(1, 2), rows)
        self._stream.add(x[:-1], x[-1])
        self.num_sequences += num_seqs
        self.num_positions += positions.numel()

    @together
    def on_validation_epoch_start(self) -> None:
        """Merge the processes' moments, and fit every candidate from them.

        Raises:
            InputError: the covariance is rank-deficient, or there are too few positions.
        """
        moments = reduce_moments(self._stream.moments(), lambda tensor: all_sum(self.trainer, tensor))
        self.total_positions = moments.num_pos
        kinds: tuple[WhiteningKind, ...] = ("diagonal", "full")
        if self.settings.whiten != "auto":
            kinds = (self.settings.whiten,)
        places = {depth: place for place, depth in enumerate(self.rows)}
        for kind in kinds:
            final = whiten_final(moments, kind, self.shrinkage)
            for depths in POOLS:
                pooled = [places[depth] for depth in depths]
                fitted = fit_prism(moments, pooled, kind, self.shrinkage, self.rank, final=final)
                self.prisms[Candidate(kind, depths)] = PrismLens(fitted, self.head)
        self._lenses: dict[str, Lens] = {"norm": NormLens(self.head)}
        self._lenses |= {str(candidate): lens for candidate, lens in self.prisms.items()}
        self._means = {name: self._row_means() for name in self._lenses}

    def _row_means(self) -> RowMeans:
        means = RowMeans(self.frozen.num_blocks + 1, QUANTITIES)
        return means if self.device.type == "mps" else means.to(self.device)  # MPS has no float64

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Divergences of every row from the final distribution, under the norm lens and every candidate."""
        rows = list(range(self.frozen.num_blocks + 1))
        h = residuals(self.frozen, batch.input_ids, batch.positions, rows).flatten(1, 2)
        for name, lens in self._lenses.items():
            divergence = lens_divergence(lens, h, block_bytes=self.block_bytes)
            self._means[name].update(**divergence._asdict())

    def on_validation_epoch_end(self) -> None:
        """Choose the candidate with the least mean KL(P_final‖P_L) at 25, 50 and 75% depth.

        Raises:
            RunError: a figure is not finite.
        """
        readings = {
            name: {key: value.cpu() for key, value in means.compute().items()} for name, means in self._means.items()
        }
        refuse_nonfinite(readings)
        percentiles = depth_percentile_rows(self.frozen.num_blocks)
        for candidate in self.prisms:
            kl = readings[str(candidate)]["kl_from_final_bits"]
            self.divergences[candidate] = {percent: float(kl[row]) for percent, row in percentiles.items()}
        self.chosen = min(self.divergences, key=self.mean_divergence)
        self.validation = {"norm": readings["norm"], "prism": readings[str(self.chosen)]}

    def mean_divergence(self, candidate: Candidate) -> float:
        """Mean KL(P_final‖P_L) in bits over the depth percentiles."""
        of = self.divergences[candidate].values()
        return sum(of) / len(of)
