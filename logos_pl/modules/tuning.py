"""The tuned lens as Lightning trains and judges it: read the residual stream, compute, log."""

import copy
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from logos_pl.agreement import together
from logos_pl.bounds import MAX_SEED, check_number
from logos_pl.data.datamodule import LensDataModule
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.prompts import PromptBatch
from logos_pl.errors import InputError, RunError
from logos_pl.fit.closed_form import ClosedFormStart
from logos_pl.functional.bias_loss import bias_cross_entropy
from logos_pl.functional.budget import average_weight, lr_factor, warmup_factor, warmup_steps
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.divergence import RowDivergence
from logos_pl.functional.lens_loss import lens_loss
from logos_pl.functional.low_rank import resolve_rank
from logos_pl.functional.positions import sample_rows
from logos_pl.functional.row_index import row_index
from logos_pl.functional.schedules import SCHEDULES, Anneal, Init, ScheduleName, scheduled_lr, scheduled_rows
from logos_pl.functional.training_basis import TrainingBasis
from logos_pl.gates.evaluator import GateEvaluator, GateReadings
from logos_pl.kinds.registry import judged, kind_of
from logos_pl.lenses.calibration import TemperedLens, fit_temperatures
from logos_pl.lenses.decoding import lens_divergence
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.devices import Fp32Unembed
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.modules.row_means import RowMeans
from logos_pl.sweep.attribution import DirectLogitAttribution
from logos_pl.sweep.reader import BatchReading, PromptReader

PERCENTILE_KL = "val/kl_from_final_bits_percentile_mean"
"""The logged figure that decides on stopping and on the best checkpoint: the tuned lens's KL(P_final‖P_L) in bits,
mean over the rows at 25, 50 and 75% depth. It is the divergence the lens is trained on."""

QUANTITIES = RowDivergence._fields

MAX_BLOCK_MIB = 2**20
"""Largest memory budget of a block of logits, in MiB: a TiB."""

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
    wrapped by a distributed strategy. Source: docs/method.md §2; arXiv:2303.08112 §3.

    Args:
        model_id: Hub id of a causal language model, a folder with its files, or `demo` for the bundled one.
        revision: branch, tag or commit of the model on the Hub.
        dtype: number format the frozen model runs in; `auto`: bfloat16 on CUDA, float32 on the CPU below 30B.
        compile: compile the blocks of the frozen model, on CUDA: the first step takes longer, and the others less.
        fp32_unembed: hold the unembedding in float32 for the lenses (`true`), or in the model's own number format
            (`false`), which takes no second copy and rounds what goes into its products; `auto`: in float32, but for
            vocabularies of 100,000 tokens and more on CUDA. Logits and losses are float32 in any case.
        decoding_norm: norm in front of the unembedding: the model's `final` one at every row, or the one that
            reads the row `next`.
        rank: rank of each translator; `auto`: width / 32 within 64 to 256; 0: bias and temperature only.
        init: how the translators start: in `closed_form`, by least squares on the first 1% of the text, or `random`;
            `auto`: the schedule's.
        layers_per_step: rows trained in each step; `all`: every row; `auto`: the schedule's.
        precond: basis that U and V are trained in: `auto`, one that is whitened by what the closed-form start has read,
            or at a random start the plain one; `off`, the plain one. The artifact holds them in the plain basis.
        temperature: learn a temperature for each row.
        bias_only: fit a lens of bias and temperature alone beside the tuned one, which the gates compare with; it
            changes nothing in the tuned lens, and costs about a fifth of a step on the demo, an eighth at the sizes of
            GPT-2, and less the larger the model. Not fitted at rank 0, where the lens itself is that.
        lr: peak learning rate of AdamW; `auto`: the schedule's.
        anneal: how the noise of the last steps is taken out: `average`, a constant learning rate after the warm-up, and
            the lens is a running average of the weights; `cosine`, a cosine of the learning rate to 0; `auto`: the
            schedule's.
        betas: AdamW's decay rates of the moments.
        weight_decay: AdamW's decoupled weight decay, of U and V.
        l2: weight of ‖U‖² + ‖V‖² + ‖c‖², summed over rows, in the basis that U and V are trained in; `auto`: the
            schedule's.
        smoothness: weight of the squared differences of U and V between neighbouring rows, summed, in the same basis;
            `auto`: the schedule's.
        schedule: what `auto` stands for; follows --schedule.
        loss_block_mib: memory budget of one block of logits in the loss, in MiB.
        seed: seed of the initialisation and of the rows drawn in each step.

    Raises:
        InputError: A number is out of its bounds.
    """

    def __init__(
        self,
        model_id: str,
        revision: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        compile: bool = False,
        fp32_unembed: Fp32Unembed = "auto",
        decoding_norm: Literal["final", "next"] = "final",
        rank: int | Literal["auto"] = "auto",
        init: Init | Literal["auto"] = "auto",
        layers_per_step: int | Literal["auto", "all"] = "auto",
        precond: Literal["auto", "off"] = "auto",
        temperature: bool = True,
        bias_only: bool = True,
        lr: float | Literal["auto"] = "auto",
        anneal: Anneal | Literal["auto"] = "auto",
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-4,
        l2: float | Literal["auto"] = "auto",
        smoothness: float | Literal["auto"] = "auto",
        schedule: ScheduleName = "full",
        loss_block_mib: int = 256,
        seed: int = 316,
    ) -> None:
        super().__init__()
        regulariser = SCHEDULES[schedule].regulariser
        self.l2 = regulariser if l2 == "auto" else l2
        self.smoothness = regulariser if smoothness == "auto" else smoothness
        self.anneal: Anneal = SCHEDULES[schedule].anneal if anneal == "auto" else anneal
        for name, weight in (("weight_decay", weight_decay), ("l2", self.l2), ("smoothness", self.smoothness)):
            check_number(f"--model.{name}", weight, at_least=0)
        for beta in betas:
            check_number("--model.betas", beta, at_least=0, below=1)
        if lr != "auto":
            check_number("--model.lr", lr, above=0)
        if rank != "auto":
            check_number("--model.rank", rank, at_least=0)
        if layers_per_step != "auto" and layers_per_step != "all":
            check_number("--model.layers_per_step", layers_per_step, at_least=1)
        check_number("--model.loss_block_mib", loss_block_mib, at_least=1, at_most=MAX_BLOCK_MIB)
        check_number("--seed_everything", seed, at_least=0, at_most=MAX_SEED)
        self.model_id, self.revision, self.dtype_name, self.decoding_norm = model_id, revision, dtype, decoding_norm
        self.fp32_unembed: Fp32Unembed = fp32_unembed
        self.with_compile = compile  # the bare name is a method of every module
        self.rank, self.layers_per_step, self.temperature = rank, layers_per_step, temperature
        self.with_bias_only = bias_only
        self.precond = precond
        self.lr, self.betas, self.weight_decay = lr, betas, weight_decay
        self.loss_block_bytes = loss_block_mib * 2**20
        self.schedule, self.init = schedule, init
        self.seed = seed
        self.start: StartRecord | None = None
        self.lm: FrozenLM | None = None
        self.reading: StepReading | None = None
        self.validation: Readings = {}
        self.origins: dict[str, object] = {}
        self.keep_residuals = False
        self.attribution: DirectLogitAttribution | None = None
        self.prompt_reader: PromptReader | None = None
        self.evaluator: GateEvaluator | None = None
        self.gate_readings: GateReadings | None = None

    # Set-up

    translators: Translators
    bias_only: Translators | None
    averages: torch.nn.ModuleDict
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

    def add_lens(self, name: str, lens: Lens, origin: object = None) -> None:
        """Take a lens that was loaded in among those that are read, and validated if it is of such a kind.

        Args:
            name: The name of its kind.
            lens: Bound to the model's head.
            origin: Where it comes from; None where that is not recorded.
        """
        self.lenses[name] = lens
        if origin is not None:
            self.origins[name] = origin
        if kind_of(name).validated and name not in self.row_means:
            means = RowMeans(self.frozen.num_blocks + 1, QUANTITIES)
            self.row_means[name] = means if self.device.type == "mps" else means.to(self.device)

    def begin_at(self, start: ClosedFormStart) -> None:
        """Let the translators and the bias-only lens begin where least squares put them."""
        self.translators.start_at(start.tuned, start.basis if self.in_basis else None)
        if self.bias_only is not None:
            self.bias_only.start_at(start.bias_only)
        self._start_averages()
        self.start = StartRecord(*start[3:])

    def build(self, lm: FrozenLM) -> None:
        """Make the lens on a loaded model.

        Raises:
            InputError: the rank or the number of rows does not fit the model.
        """
        rank = resolve_rank(self.rank, lm.d_model)
        self.init = SCHEDULES[self.schedule].init if self.init == "auto" else self.init
        self.lr = scheduled_lr(self.schedule, lm.d_model) if self.lr == "auto" else self.lr
        self.rows_in_step = self._count_rows(lm)
        self.in_basis = self.precond == "auto" and self.init == "closed_form" and rank > 0
        self.translators = Translators(lm.num_blocks - 1, lm.d_model, rank, seed=self.seed)
        self.translators.log_tau.requires_grad_(self.temperature)
        self.head = Head(lm.anatomy, decoding_norm=self.decoding_norm, fp32_unembed=self.fp32_unembed).to(self.device)
        self.bias_only = None
        if self.with_bias_only and rank > 0:
            self.bias_only = Translators(lm.num_blocks - 1, lm.d_model, 0)
            self.bias_only.log_tau.requires_grad_(self.temperature)
        self.averages = torch.nn.ModuleDict({name: copy.deepcopy(lens) for name, lens in self._trained().items()})
        self.averages.requires_grad_(False)
        self.lenses = {"norm": NormLens(self.head), "tuned": TunedLens(self.average("translators"), self.head)}
        means = {name: RowMeans(lm.num_blocks + 1, QUANTITIES) for name in self.lenses}
        if self.bias_only is not None:
            self.lenses["bias"] = TunedLens(self.average("bias_only"), self.head)
        # Registered, so that they move along; but MPS has no float64, so there they stay on the CPU.
        registered = means if self.device.type == "mps" else torch.nn.ModuleDict(means)
        self.row_means = cast(MutableMapping[str, RowMeans], registered)
        self.lm = lm

    def _trained(self) -> dict[str, Translators]:
        """What the optimiser moves, by name."""
        lenses = {"translators": self.translators}
        return lenses if self.bias_only is None else lenses | {"bias_only": self.bias_only}

    def average(self, name: str) -> Translators:
        """The running average of the translators or of the bias-only lens: what is validated and exported."""
        return cast(Translators, self.averages[name])

    def _start_averages(self) -> None:
        """Put every average where its lens is now."""
        for name, lens in self._trained().items():
            self.average(name).load_state_dict(lens.state_dict())
            self.average(name).basis = lens.basis

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
        """AdamW on the translators and the bias-only lens, linear warm-up, then as `anneal` says.

        Weights decay, biases and temperatures don't: log τ would be pulled to 0, which is no particular temperature.
        """
        total = self.trainer.datamodule.total_steps  # type: ignore[attr-defined]
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [part for part in trained if part.ndim == 3], "weight_decay": self.weight_decay},  # U and V
            {"params": [part for part in trained if part.ndim < 3], "weight_decay": 0.0},  # c and log τ
        ]
        optimizer = torch.optim.AdamW(groups, lr=float(self.lr), betas=self.betas, fused=True)
        warmup = warmup_steps(total)
        courses: dict[Anneal, Callable[[int], float]] = {
            "average": lambda step: warmup_factor(step, warmup),
            "cosine": lambda step: lr_factor(step, total, warmup),
        }
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, courses[self.anneal])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Training

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The step, and what it gives is taken into the average."""
        super().optimizer_step(*args, **kwargs)
        self.update_averages(self.global_step + 1)

    @torch.no_grad()
    def update_averages(self, step: int) -> None:
        """Take the weights after optimiser step `step` (from 1) into their averages; under a cosine, as they are."""
        weight = average_weight(step) if self.anneal == "average" else 1.0
        for name, lens in self._trained().items():
            for mean, value in zip(self.average(name).parameters(), lens.parameters(), strict=True):
                mean.lerp_(value, weight)

    def training_step(self, batch: TextBatch, batch_idx: int) -> dict[str, Any]:
        """Cross-entropy of the sampled rows against the final distribution, plus the regularisers.

        The loss of the bias-only lens is added: the two share no parameter, so neither sees the other's gradient.
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
        if self.bias_only is not None:
            total = total + self._bias_only_loss(self.bias_only, x, teacher, index)
        return {"loss": total, "rows": len(rows)}

    def _bias_only_loss(
        self,
        bias_only: Translators,
        x: Float[Tensor, "rows pos d_model"],
        teacher: Float[Tensor, "pos d_head"],
        index: Int[Tensor, " rows"] | None,
    ) -> Float[Tensor, ""]:
        """The loss of the bias-only lens on what the step has read, at half the products of the tuned lens."""
        cross_entropy = bias_cross_entropy(
            self.head.project(x),
            self.head.project_shift(bias_only.bias(index)),
            bias_only.inv_tau(index),
            teacher,
            self.head.unembedding,
            block_bytes=self.loss_block_bytes,
        )
        return cross_entropy.mean() + self._regularisers(bias_only)

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
        for name in self.row_means:
            divergence = lens_divergence(self.lenses[name], h, block_bytes=self.loss_block_bytes)
            self.row_means[name].update(**divergence._asdict())

    @together
    def on_test_start(self) -> None:
        """Fit the calibration baseline on the validation text, and set up what the gates are judged by."""
        data: LensDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        if "bias" not in self.lenses:
            raise InputError(
                "The lens was fitted without a bias-only lens, which the gates compare with: "
                "fit it again with --model.bias_only true."
            )
        norm = NormLens(self.head)
        h = self._validation_residuals(list(data.all_validation_batches()))
        inv_tau = fit_temperatures(norm, h, block_bytes=self.loss_block_bytes)
        del h
        lenses = {"norm": norm, "norm_tau": TemperedLens(norm, inv_tau)}
        lenses |= {name: self.lenses[name] for name in ("bias", *judged()) if name in self.lenses}
        self.evaluator = GateEvaluator(self.frozen, lenses, data.asked, self.loss_block_bytes)
        if self.device.type != "mps":  # which has no float64: there the sums stay on the CPU
            self.evaluator.to(self.device)

    def _validation_residuals(self, batches: Sequence[TextBatch]) -> Float[Tensor, "rows pos d_model"]:
        """Every row at the positions of held-out text: once, and on the CPU, as it is looked at only in pieces."""
        lm, rows = self.frozen, list(range(self.frozen.num_blocks + 1))
        num_pos = sum(batch.positions.numel() for batch in batches)
        kept = torch.empty(len(rows), num_pos, lm.d_model, dtype=lm.stream_dtype, device="cpu")
        start = 0
        for batch in batches:
            h = residuals(lm, batch.input_ids, batch.positions, rows).flatten(1, 2)
            kept[:, start : start + h.shape[1]] = h
            start += h.shape[1]
        return kept

    def test_step(self, batch: TextBatch | PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Read a batch of either evaluation set."""
        assert self.evaluator is not None
        if isinstance(batch, TextBatch):
            self.evaluator.read_text(batch)
        else:
            self.evaluator.read_prompts(batch)

    def on_predict_start(self) -> None:
        """Make ready what every batch is read with, now that the lenses are in place."""
        self.prompt_reader = PromptReader(self.frozen, self.lenses, self.loss_block_bytes, self.attribution)

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
        assert self.evaluator is not None
        self.gate_readings = self.evaluator.compute()

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
            "unembed_dtype": str(self.head.unembedding.weight.dtype),
            "compile": self.with_compile,
            "decoding_norm": self.decoding_norm,
            "rank": self.translators.rank,
            "init": self.init,
            "rows_in_step": self.rows_in_step,
            "in_basis": self.in_basis,
            "temperature": self.temperature,
            "bias_only": self.bias_only is not None,
            "lr": float(self.lr),
            "anneal": self.anneal,
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
        basis = self.translators.basis
        checkpoint["lens_basis"] = None if basis is None else basis.to(torch.device("cpu"))._asdict()
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
        basis = basis_of(checkpoint)
        for lens in (self.translators, self.average("translators")):
            # Lightning restores before it moves the lens, whose parameters then follow by themselves.
            lens.basis = None if basis is None else basis.to(self.device)


def basis_of(checkpoint: dict[str, Any]) -> TrainingBasis | None:
    """The basis that a checkpoint's U and V are written in; None: the plain one."""
    recorded = checkpoint["lens_basis"]
    return None if recorded is None else TrainingBasis(**recorded)


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


def refuse_other_run(recorded: dict[str, Any] | None, present: dict[str, Any], name: str = "The checkpoint") -> None:
    """Compare a checkpoint's identity with the present run's.

    Args:
        recorded: The checkpoint's.
        present: The run's.
        name: What the checkpoint is called in messages.

    Raises:
        InputError: they differ, or the checkpoint records none.
    """
    if recorded is None:
        raise InputError(f"{name} was not written by logos-pl fit: give one that was, or start anew.")
    differing = [key for key in present if recorded.get(key) != present[key]]
    if differing:
        listed = ", ".join(f"{key} {recorded.get(key)!r} (asked for: {present[key]!r})" for key in differing)
        raise InputError(f"{name} belongs to another run, with {listed}: give the same settings, or start anew.")
