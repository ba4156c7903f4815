"""The tuned lens as Lightning trains and judges it: read the residual stream, compute, log."""

import math
from collections.abc import Iterable, MutableMapping
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from logos_pl.agreement import together
from logos_pl.artifacts.prism import WHITEN_FILE, load_basis
from logos_pl.data.datamodule import LensDataModule
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.prompts import PromptBatch
from logos_pl.errors import InputError, RunError
from logos_pl.functional.bias_loss import bias_cross_entropy
from logos_pl.functional.budget import lr_factor, warmup_steps
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.divergence import RowDivergence, row_divergence
from logos_pl.functional.lens_loss import lens_loss
from logos_pl.functional.low_rank import settle_rank
from logos_pl.functional.positions import sample_rows
from logos_pl.functional.row_index import row_index
from logos_pl.functional.schedules import SCHEDULES, Init, ScheduleName, scheduled_lr, scheduled_rows
from logos_pl.functional.whitening import Whitening
from logos_pl.lenses.calibration import TemperedLens, fit_temperatures
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.prism import PrismLens
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.metrics.row_means import RowMeans
from logos_pl.modules.closed_form_start import ClosedFormStart
from logos_pl.modules.decomposing import Decomposer
from logos_pl.modules.judging import Judged, Judging
from logos_pl.modules.reading import BatchReading, PromptReader

PERCENTILE_KL = "val/kl_from_final_bits_percentile_mean"
"""The logged figure that decides on stopping and on the best checkpoint: the tuned lens's KL(P_final‖P_L) in bits,
mean over the rows at 25, 50 and 75% depth. It is the divergence the lens is trained on."""

QUANTITIES = RowDivergence._fields

Readings = dict[str, dict[str, Float[Tensor, " rows"]]]
"""Means over the held-out positions for rows 0 to n, by lens (`norm`, `tuned`, `prism`) and quantity."""


class StepReading(NamedTuple):
    """What the last training step saw; tensors stay on the device, so that nothing waits for them."""

    cross_entropy_nats: Float[Tensor, ""]
    kl_nats: Float[Tensor, " rows"]
    rows: list[int]


class StartRecord(NamedTuple):
    """What the closed-form start was made from, for the provenance; as in ``ClosedFormStart``."""

    sequences: int
    tokens: int
    positions: int
    shrinkage: list[float]


class LensTuning(LightningModule):
    """Trains the translators and temperatures of a tuned lens on a frozen model.

    The frozen model is a plain attribute, outside the module registry: it is never trained, saved, summarised or
    wrapped by a distributed strategy. Source: SPEC §2; arXiv:2303.08112 §3.

    Args:
        model_id: Hub id of a causal language model, a folder with its files, or `demo` for the bundled one.
        revision: branch, tag or commit of the model on the Hub.
        dtype: number format the frozen model runs in; `auto`: bfloat16 on CUDA, float32 on the CPU below 30B.
        compile: compile the blocks of the frozen model, on CUDA: the first step takes longer, and the others less.
        decoding_norm: norm in front of the unembedding: the model's `final` one at every row, or the one that
            reads the row `next`.
        rank: rank of each translator; `auto`: width / 32 within 64 to 256; 0: bias and temperature only.
        init: how the translators start: in `closed_form`, by least squares on the first 1% of the text, or `random`;
            `auto`: the schedule's.
        layers_per_step: rows trained in each step; `all`: every row; `auto`: the schedule's.
        precond: whitened basis that U and V are trained in: `auto`, that of the model's prism if the command finds one;
            `off`, none; or the folder of a prism.
        temperature: learn a temperature for each row.
        companion: fit a lens of bias and temperature alone beside the tuned one, which the gates compare with; it
            changes nothing in the tuned lens, and costs about a fifth of a step on the demo, an eighth at the sizes of
            GPT-2, and less the larger the model. Not fitted at rank 0, where the lens itself is that.
        lr: peak learning rate of AdamW; `auto`: the schedule's.
        betas: AdamW's decay rates of the moments.
        weight_decay: AdamW's decoupled weight decay.
        l2: weight of ‖U‖² + ‖V‖² + ‖c‖², summed over rows.
        smoothness: weight of the squared differences of U and V between neighbouring rows, summed.
        schedule: what `auto` stands for; follows --schedule.
        loss_block_mib: memory budget of one block of logits in the loss, in MiB.
        seed: seed of the initialisation and of the rows drawn in each step.
    """

    def __init__(
        self,
        model_id: str,
        revision: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        compile: bool = False,
        decoding_norm: Literal["final", "next"] = "final",
        rank: int | Literal["auto"] = "auto",
        init: Init | Literal["auto"] = "auto",
        layers_per_step: int | Literal["auto", "all"] = "auto",
        precond: str = "auto",
        temperature: bool = True,
        companion: bool = True,
        lr: float | Literal["auto"] = "auto",
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-4,
        l2: float = 1e-4,
        smoothness: float = 1e-4,
        schedule: ScheduleName = "full",
        loss_block_mib: int = 256,
        seed: int = 316,
    ) -> None:
        super().__init__()
        _check_numbers(lr, betas, {"weight_decay": weight_decay, "l2": l2, "smoothness": smoothness}, loss_block_mib)
        self.model_id, self.revision, self.dtype_name, self.decoding_norm = model_id, revision, dtype, decoding_norm
        self.with_compile = compile  # the bare name is a method of every module
        self.rank, self.layers_per_step, self.temperature = rank, layers_per_step, temperature
        self.with_companion = companion
        self.precond = precond
        self.lr, self.betas, self.weight_decay, self.l2, self.smoothness = lr, betas, weight_decay, l2, smoothness
        self.loss_block_bytes = loss_block_mib * 2**20
        self.schedule, self.init = schedule, init
        self.seed = seed
        self.start: StartRecord | None = None
        self.lm: FrozenLM | None = None
        self.reading: StepReading | None = None
        self.validation: Readings = {}
        self.keep_residuals = False
        self.decomposer: Decomposer | None = None
        self.prompt_reader: PromptReader | None = None
        self.judging: Judging | None = None
        self.judged: Judged | None = None

    # Set-up

    translators: Translators
    companion: Translators | None
    head: Head
    lenses: dict[str, Lens]
    row_means: MutableMapping[str, RowMeans]

    @together
    def configure_model(self) -> None:
        """Load and freeze the model, and make the translators; does nothing the second time.

        Raises:
            InputError: the model cannot be loaded, is not supported or cannot be compiled, or the rank does not fit it.
        """
        if self.lm is not None:
            return
        # Lightning calls this under `with torch.device(cuda)`, where transformers would ask for a device map and every
        # new tensor of ours would land on the GPU; what goes there is moved on purpose.
        with torch.device("cpu"):
            lm = FrozenLM.load(self.model_id, revision=self.revision, dtype=self.dtype_name, device=self.device)
            if self.with_compile:
                lm.compile_blocks()
            self.build(lm)

    @property
    def frozen(self) -> FrozenLM:
        """The frozen model; there from `configure_model` on."""
        assert self.lm is not None, "configure_model() has not run yet"
        return self.lm

    def adopt(self, lens: TunedLens) -> None:
        """Take over a fitted lens, bound to the model, in place of the one that was made.

        Raises:
            InputError: it was trained with another decoding norm than the run's.
        """
        trained_with = lens.head.decoding_norm
        if trained_with != self.decoding_norm:
            raise InputError(
                f"The lens was trained with decoding_norm {trained_with}, and the run asks for {self.decoding_norm}: "
                f"give --model.decoding_norm {trained_with}."
            )
        self.translators = lens.translators
        self.lenses["tuned"] = lens.bind(self.head)  # one head serves all lenses

    def adopt_companion(self, lens: TunedLens | None) -> None:
        """Take over a fitted lens's companion in place of the one that was made; None: do without."""
        self.companion = None if lens is None else lens.translators
        self.lenses.pop("bias", None)
        if lens is not None:
            self.lenses["bias"] = lens.bind(self.head)

    def adopt_prism(self, lens: PrismLens) -> None:
        """Take a fitted prism in among the lenses that are read and validated."""
        self.lenses["prism"] = lens.bind(self.head)
        means = RowMeans(self.frozen.num_blocks + 1, QUANTITIES)
        self.row_means["prism"] = means if self.device.type == "mps" else means.to(self.device)

    def begin_at(self, start: ClosedFormStart) -> None:
        """Let the translators and the companion begin where least squares put them."""
        self.translators.start_at(start.tuned)
        if self.companion is not None:
            self.companion.start_at(start.companion)
        self.start = StartRecord(start.sequences, start.tokens, start.positions, start.shrinkage)

    def build(self, lm: FrozenLM) -> None:
        """Make the lens on a loaded model.

        Raises:
            InputError: the rank or the number of rows does not fit the model.
        """
        rank = settle_rank(self.rank, lm.d_model)
        self.init = SCHEDULES[self.schedule].init if self.init == "auto" else self.init
        self.lr = scheduled_lr(self.schedule, lm.d_model) if self.lr == "auto" else self.lr
        self.rows_in_step = self._count_rows(lm)
        basis = self._basis(lm)
        self.translators = Translators(lm.num_blocks - 1, lm.d_model, rank, seed=self.seed, basis=basis)
        self.translators.log_tau.requires_grad_(self.temperature)
        self.head = Head(lm.anatomy, decoding_norm=self.decoding_norm).to(self.device)
        self.lenses = {"norm": NormLens(self.head), "tuned": TunedLens(self.translators, self.head)}
        means = {name: RowMeans(lm.num_blocks + 1, QUANTITIES) for name in self.lenses}
        self.companion = None
        if self.with_companion and rank > 0:
            self.companion = Translators(lm.num_blocks - 1, lm.d_model, 0)
            self.companion.log_tau.requires_grad_(self.temperature)
            self.lenses["bias"] = TunedLens(self.companion, self.head)
        # Registered, so that they move along; but MPS has no float64, so there they stay on the CPU.
        registered = means if self.device.type == "mps" else torch.nn.ModuleDict(means)
        self.row_means = cast(MutableMapping[str, RowMeans], registered)
        self.lm = lm

    def _basis(self, lm: FrozenLM) -> Whitening | None:
        """The basis of U and V, and in the identity, which one it is."""
        self.precond_sha256: str | None = None
        if self.precond in ("auto", "off"):
            return None
        basis, provenance = load_basis(self.precond, lm, self.decoding_norm)
        self.precond_sha256 = provenance.sha256[WHITEN_FILE]
        return Whitening(*(part.to(self.device) for part in basis))

    def _count_rows(self, lm: FrozenLM) -> int:
        inner = lm.num_blocks - 1
        if self.layers_per_step == "all":
            return inner
        if self.layers_per_step == "auto":
            return scheduled_rows(self.schedule, lm.vocab_size, inner)
        if not 1 <= self.layers_per_step <= inner:
            raise InputError(
                f"--model.layers_per_step {self.layers_per_step} does not fit {lm.model_id}, which has {inner} rows "
                f"with a translator: choose 1 to {inner}, `auto` or `all`."
            )
        return self.layers_per_step

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW on the translators and the companion, linear warm-up and cosine to 0 over the budget's steps."""
        total = self.trainer.datamodule.total_steps  # type: ignore[attr-defined]
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=float(self.lr), betas=self.betas, weight_decay=self.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: lr_factor(step, total, warmup_steps(total))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Training

    def training_step(self, batch: TextBatch, batch_idx: int) -> dict[str, Any]:
        """Cross-entropy of the sampled rows against the final distribution, plus the regularisers.

        The companion's is added to it: the two have no parameter in common, so that neither sees the other's gradient.
        """
        rows = self._rows_of_step()
        x, teacher, index = self._read(batch, rows)
        inv_tau = self.translators.inv_tau(index)
        loss = lens_loss(
            self.head.project(self.translators(x, index)),
            teacher,
            inv_tau,
            self.head.unembedding,
            block_bytes=self.loss_block_bytes,
        )
        cross_entropy = loss.kl_nats.mean() + loss.teacher_entropy_nats.mean()
        self.reading = StepReading(cross_entropy.detach(), loss.kl_nats.detach().mean(dim=1), rows)
        total = cross_entropy + self._regularisers(self.translators)
        if self.companion is not None:
            total = total + self._companion_loss(self.companion, x, teacher, index)
        return {"loss": total, "rows": len(rows)}

    def _companion_loss(
        self,
        companion: Translators,
        x: Float[Tensor, "rows pos d_model"],
        teacher: Float[Tensor, "pos d_head"],
        index: Int[Tensor, " rows"] | None,
    ) -> Float[Tensor, ""]:
        """The companion's loss on what the tuned lens's step has read, at half the products of the tuned lens's."""
        cross_entropy = bias_cross_entropy(
            self.head.project(x),
            self.head.project_shift(companion.bias(index)),
            companion.inv_tau(index),
            teacher,
            self.head.unembedding,
            block_bytes=self.loss_block_bytes,
        )
        return cross_entropy.mean() + self._regularisers(companion)

    def _regularisers(self, translators: Translators) -> Float[Tensor, ""]:
        return self.l2 * translators.penalty() + self.smoothness * translators.smoothness()

    def _rows_of_step(self) -> list[int]:
        inner = self.frozen.num_blocks - 1
        if self.rows_in_step == inner:
            return list(range(1, inner + 1))
        return sample_rows(self.seed, self.global_step, self.rows_in_step, inner).tolist()

    def _read(
        self, batch: TextBatch, rows: list[int]
    ) -> tuple[Float[Tensor, "rows pos d_model"], Float[Tensor, "pos d_head"], Int[Tensor, " rows"] | None]:
        """Normalised residuals of `rows`, the teacher's head input, and where the rows' translators stand."""
        last = self.frozen.num_blocks
        h = residuals(self.frozen, batch.input_ids, batch.positions, [*rows, last]).flatten(1, 2)
        x = self.head.normalise(h[:-1], rows)
        teacher = self.head.project(self.head.normalise(h[-1:], [last]))[0]
        index = None if len(rows) == last - 1 else row_index([row - 1 for row in rows], h.device)
        return x, teacher, index

    # Validation and test

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Divergences of every row from the final distribution, norm lens and tuned lens."""
        rows = list(range(self.frozen.num_blocks + 1))
        h = residuals(self.frozen, batch.input_ids, batch.positions, rows).flatten(1, 2)
        teacher = self.head.project(self.head.normalise(h[-1:], rows[-1:]))[0]
        for name in self.row_means:
            x, inv_tau = self.lenses[name].decode_inputs(h, rows)
            divergence = row_divergence(x, teacher, inv_tau, self.head.unembedding, block_bytes=self.loss_block_bytes)
            self.row_means[name].update(**divergence._asdict())

    @together
    def on_test_start(self) -> None:
        """Fit the calibration baseline on the validation text, and set up what the gates are judged by."""
        data: LensDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        tuned = self.lenses["tuned"]
        # At rank 0 the lens is bias and temperature alone, and its own baseline.
        bias = self.lenses.get("bias", tuned if self.translators.rank == 0 else None)
        if bias is None:
            raise InputError(
                "The lens was fitted without a companion, the bias-and-temperature lens that the gates compare with: "
                "fit it again with --model.companion true."
            )
        norm, rows = NormLens(self.head), list(range(self.frozen.num_blocks + 1))
        texts = [residuals(self.frozen, b.input_ids, b.positions, rows) for b in data.all_validation_batches()]
        h = torch.cat([text.flatten(1, 2) for text in texts], dim=1)
        inv_tau = fit_temperatures(norm, h, block_bytes=self.loss_block_bytes)
        lenses = {"tuned": tuned, "norm": norm, "norm_tau": TemperedLens(norm, inv_tau), "bias": bias}
        if "imported" in self.lenses:
            lenses["imported"] = self.lenses["imported"]
        self.judging = Judging(self.frozen, lenses, data.asked, self.loss_block_bytes)
        if self.device.type != "mps":  # which has no float64: there the sums stay on the CPU
            self.judging.to(self.device)

    def test_step(self, batch: TextBatch | PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Read a batch of either evaluation set."""
        assert self.judging is not None
        if isinstance(batch, TextBatch):
            self.judging.read_text(batch)
        else:
            self.judging.read_prompts(batch)

    def on_predict_start(self) -> None:
        """Make ready what every batch is read with, now that the lenses are in place."""
        self.prompt_reader = PromptReader(self.frozen, self.lenses, self.loss_block_bytes, self.decomposer)

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> BatchReading:
        """Every lens at every row and position of a batch of prompts, from one forward pass."""
        assert self.prompt_reader is not None
        return self.prompt_reader.read(batch, self.keep_residuals)

    def read_validation(self, batches: Iterable[TextBatch]) -> dict[str, float]:
        """Validate outside of Lightning's own loop, every process on its share; the figures it would log.

        Raises:
            RunError: a lens gave numbers that are not finite.
        """
        with torch.no_grad():
            for index, batch in enumerate(batches):
                self.validation_step(batch, index)
        self.validation = self._take_readings()
        return self._figures()

    def on_validation_epoch_end(self) -> None:
        """Merge the processes' readings and log the figures at the depth percentiles."""
        self.validation = self._take_readings()
        # "step" is what Lightning plots against; by itself it would take one less than the figures and temperatures.
        self.log_dict(self._figures() | {"step": float(self.global_step)})

    def on_test_epoch_end(self) -> None:
        """Merge what the processes have read."""
        assert self.judging is not None
        self.judged = self.judging.compute()

    def _take_readings(self) -> Readings:
        readings: Readings = {}
        for name, means in self.row_means.items():
            readings[name] = {key: value.cpu() for key, value in means.compute().items()}
            means.reset()
        refuse_nonfinite(readings)
        return readings

    def _figures(self) -> dict[str, float]:
        percentiles = depth_percentile_rows(self.frozen.num_blocks)
        figures = {
            f"val/{quantity}_{name}_depth{percentile}": float(reading[quantity][row])
            for name, reading in self.validation.items()
            for quantity in ("kl_from_final_bits", "kl_to_final_bits", "top1_agree")
            for percentile, row in percentiles.items()
        }
        tuned = [figures[f"val/kl_from_final_bits_tuned_depth{percentile}"] for percentile in percentiles]
        figures[PERCENTILE_KL] = sum(tuned) / len(tuned)
        return figures

    # Checkpoints

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run, as plain values: a checkpoint resumes only where all of it agrees."""
        return {
            "model_id": self.frozen.model_id,
            "model_commit": self.frozen.model_commit,
            "tokenizer_commit": self.frozen.tokenizer_commit,
            "model_dtype": str(self.frozen.dtype),
            "compile": self.with_compile,
            "decoding_norm": self.decoding_norm,
            "rank": self.translators.rank,
            "init": self.init,
            "rows_in_step": self.rows_in_step,
            "precond_sha256": self.precond_sha256,
            "temperature": self.temperature,
            "companion": self.companion is not None,
            "lr": float(self.lr),
            "betas": list(self.betas),
            "weight_decay": self.weight_decay,
            "l2": self.l2,
            "smoothness": self.smoothness,
            "seed": self.seed,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add who made the checkpoint, where its lens began, and what the last validation read."""
        checkpoint["lens_identity"] = self.identity()
        checkpoint["lens_start"] = None if self.start is None else self.start._asdict()
        checkpoint["lens_validation"] = {
            name: {key: value.tolist() for key, value in reading.items()} for name, reading in self.validation.items()
        }

    @together
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model or another set of hyperparameters.

        Raises:
            InputError: naming every setting that differs.
        """
        refuse_other_run(checkpoint.get("lens_identity"), self.identity())
        began = checkpoint["lens_start"]
        self.start = None if began is None else StartRecord(**began)


def _check_numbers(
    lr: float | Literal["auto"], betas: tuple[float, float], weights: dict[str, float], loss_block_mib: int
) -> None:
    """Refuse what no optimiser can use.

    Raises:
        InputError: naming the option.
    """
    if lr != "auto" and not 0 < lr < math.inf:
        raise InputError(f"--model.lr {lr} is no learning rate: give a number above 0.")
    if not all(0 <= beta < 1 for beta in betas):
        raise InputError(f"--model.betas {list(betas)} are no decay rates: give two numbers from 0 to below 1.")
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise InputError(f"--model.{name} {weight} is no weight: give 0 or more.")
    if loss_block_mib < 1:
        raise InputError(f"--model.loss_block_mib {loss_block_mib} is no memory budget: give 1 or more.")


@together
def refuse_nonfinite(readings: Readings) -> None:
    """Make sure that no figure was NaN or infinite anywhere.

    Raises:
        RunError: naming lens and rows.
    """
    for name, reading in readings.items():
        rows = reading["nonfinite"].nonzero().flatten().tolist()
        if rows:
            count = int(reading["nonfinite"].sum())
            raise RunError(
                f"The {name} lens gave {count} values that are not finite, at rows {rows}: run the model in float32 or "
                "bfloat16 (--model.dtype), or lower --model.lr."
            )


def _basis_in_words(identity: dict[str, Any]) -> str:
    digest = identity["precond_sha256"]
    return "the plain basis" if digest is None else f"the basis of the prism {digest[:12]}…"


def refuse_other_run(recorded: dict[str, Any] | None, present: dict[str, Any]) -> None:
    """Compare a checkpoint's identity with the present run's.

    Raises:
        InputError: they differ, or the checkpoint records none.
    """
    if recorded is None:
        raise InputError("The checkpoint was not written by logos-pl fit: give one that was, or start anew.")
    differing = [key for key in present if recorded.get(key) != present[key]]
    if differing:
        listed = ", ".join(f"{key} {recorded.get(key)!r} (asked for: {present[key]!r})" for key in differing)
        if differing == ["precond_sha256"]:
            remedy = "with --model.precond off" if recorded["precond_sha256"] is None else "once that prism is back"
            raise InputError(
                f"The checkpoint's lens is written in {_basis_in_words(recorded)}, and the run's in "
                f"{_basis_in_words(present)}: go on {remedy}, or start anew."
            )
        raise InputError(
            f"The checkpoint belongs to another run, with {listed}: give the same settings, or start anew."
        )
