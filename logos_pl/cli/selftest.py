"""`logos-pl selftest`: check numerical exactness of head, norm and sweep against the model itself."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from logos_pl.cli.command import Command
from logos_pl.cli.plan import plan_prompts
from logos_pl.data.prompt_data import PromptData
from logos_pl.data.prompts import PromptBatch, TokenizedPrompt, batches
from logos_pl.errors import InputError, RunError
from logos_pl.functional.divergence import NATS_TO_BITS, kl_nats
from logos_pl.io.fitting import print_table
from logos_pl.io.terminal import say
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.anatomy import exact_logits
from logos_pl.lm.dtypes import Fp32Unembed
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.modules.base import load_frozen
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.text import PromptSettings
from logos_pl.sweeps.module import SweepModule
from logos_pl.sweeps.reader import BatchReading, PromptReader

KL_BOUND_BITS = 1e-4
"""Largest KL of a decoded distribution from its reference, in bits. Source: docs/method.md §1."""
HALF_BOUND_BITS = 2e-2
"""The same for a model in half precision, without the rounding of its logits."""
NORM_BOUND = 1e-5
"""Largest error of a normalised residual in fp32, relative to the largest absolute value of the vector."""
MAX_PROMPTS = 3
"""Number of prompts: all of the probe."""


class Check(NamedTuple):
    """Result of one check.

    Attributes:
        name: Condition that must hold.
        measured: Measured value with unit.
        bound: Largest allowed value with unit.
        passed: Whether the check passed.
    """

    name: str
    measured: str
    bound: str
    passed: bool


class Selftest(Command):
    """Checks head, norm and sweep on a model; writes no files."""

    name = "selftest"
    groups: ClassVar = {"model": ModelSettings, "data": PromptSettings}

    def prepare(self) -> None:
        """Plan the run.

        Raises:
            InputError: The model is unknown or too large for every device.
        """
        self.plan = plan_prompts(self.settings["model"], self.config.trainer)
        if self.plan.world_size > 1:
            raise InputError("selftest runs in one process: give --trainer.devices 1.")

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        model = self.plan.model
        return SweepModule(model), PromptData(self.settings["data"], model.model_id, model.revision, model.gguf)

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return nothing: no callbacks, no logger."""
        return {"callbacks": [], "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Run all checks.

        Raises:
            RunError: A check failed.
        """
        assert isinstance(data, PromptData)
        run_selftest(self.plan.model, data, trainer.strategy.root_device)


def run_selftest(settings: ModelSettings, data: PromptData, device: torch.device) -> None:
    """Load the model, run all checks on the data module's prompts, and print them as a table.

    Raises:
        RunError: A check failed.
        InputError: The model cannot be loaded, or its head is not exact.
    """
    data.setup("predict")
    lm = load_frozen(settings, device)
    (prompts, *_) = batches(data.prompts[:MAX_PROMPTS], 2**31)
    done = list(checks(lm, prompts, settings.fp32_unembed))
    print_table(selftest_table(done))
    failed = [check.name for check in done if not check.passed]
    if failed:
        raise RunError(f"{len(failed)} of {len(done)} checks failed on {lm.model_id} ({'; '.join(failed)}).")
    say(f"{len(done)} of {len(done)} checks passed on {lm.model_id}.")


def selftest_table(done: list[Check]) -> Table:
    """Table with measured value, bound and result of each check."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("check")
    for heading in ("measured", "at most"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for check in done:
        outcome = "pass" if check.passed else "[bold red]FAIL[/bold red]"
        table.add_row(escape(check.name), check.measured, check.bound, outcome)
    return table


@torch.no_grad()
def checks(lm: FrozenLM, batch: PromptBatch, fp32_unembed: Fp32Unembed = "auto") -> Iterator[Check]:
    """Run all checks one by one, with the unembedding in the dtype of a sweep."""
    rows = list(range(lm.num_blocks + 1))
    head = Head(lm.anatomy, fp32_unembed=fp32_unembed)
    h = residuals(lm, batch.input_ids, None, rows, batch.attention_mask)
    real = batch.attention_mask.bool().to(h.device)
    model_logits = lm.logits(batch.input_ids, batch.attention_mask)[real]
    yield _counted(
        "row n through the model's own modules gives the model's logits",
        exact_logits(lm.anatomy, h[-1])[real],
        model_logits,
    )
    yield _bits(
        "row n through the fp32 head gives the model's distribution",
        NormLens(head).logits(h[-1:, real], rows[-1:])[0],
        model_logits,
    )
    yield _norm_check(head, h[:, real], rows)
    reader = PromptReader(lm, {"norm": NormLens(head)})
    once, twice = reader.read(batch), reader.read(batch)
    last = once.lenses["norm"].kl_to_final_bits[-1].abs().max()
    yield Check(
        "KL(p, p) = 0 at row n", f"{float(last):.1e} bits", f"{KL_BOUND_BITS:.0e} bits", bool(last <= KL_BOUND_BITS)
    )
    different = _differing(once, twice)
    yield Check("two sweeps give the same numbers", f"{different} differ", "0 differ", different == 0)
    yield _alone_check(reader, batch, once)


def _counted(name: str, got: Tensor, wanted: Tensor) -> Check:
    different = int((got != wanted).sum())
    return Check(name, f"{different} of {got.numel()} differ", "0 differ", different == 0)


def _bits(name: str, got: Float[Tensor, "pos vocab"], wanted: Float[Tensor, "pos vocab"]) -> Check:
    """Check the KL against the fp32 bound (docs/method.md §1), widened where the model rounds its logits."""
    log_p, log_q = (torch.log_softmax(z.cpu().double(), dim=-1) for z in (wanted, got))
    worst = float(kl_nats(log_p, log_q).max()) * NATS_TO_BITS
    bound = KL_BOUND_BITS
    if wanted.dtype != torch.float32:
        # A logit z is rounded by up to eps·|z|/2, and KL grows with the square of such errors.
        bound = HALF_BOUND_BITS + (torch.finfo(wanted.dtype).eps * float(wanted.abs().max())) ** 2 / 4
    return Check(name, f"{worst:.1e} bits", f"{bound:.0e} bits", worst <= bound)


def _norm_check(head: Head, h: Float[Tensor, "rows pos d_model"], rows: list[int]) -> Check:
    """Compare the head's fp32 norm with the textbook formula in fp64."""
    norm, x = head.final, h.cpu().double()
    if norm.kind == "layer":
        x = x - x.mean(dim=-1, keepdim=True)
    wanted = x
    if norm.kind != "identity":
        wanted = x / (x.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt() * norm.gamma.cpu().double()
        wanted = wanted if norm.beta is None else wanted + norm.beta.cpu().double()
    got = head.normalise(h, rows).cpu().double()
    worst = float(((got - wanted).abs().amax(dim=-1) / wanted.abs().amax(dim=-1).clamp(min=1e-30)).max())
    name = "the fp32 norm matches the formula in fp64 at every row"
    return Check(name, f"{worst:.1e}", f"{NORM_BOUND:.0e}", worst <= NORM_BOUND)


def _differing(a: BatchReading, b: BatchReading) -> int:
    """Number of values that differ in any bit, over all lenses."""
    same = [
        torch.eq(x, y) | (x.isnan() & y.isnan())
        for lens in a.lenses
        for x, y in zip(a.lenses[lens], b.lenses[lens], strict=True)
    ]
    return sum(int((~part).sum()) for part in same)


def _alone_check(reader: PromptReader, batch: PromptBatch, together: BatchReading) -> Check:
    """Compare each prompt read alone, without padding, with the batch; half precision may differ by 1 bit."""
    worst = 0.0
    for number, prompt in enumerate(batch.prompts):
        alone = _alone(reader, prompt).lenses["norm"].kl_to_final_bits
        start = together.starts[number]
        beside = together.lenses["norm"].kl_to_final_bits[:, start : start + alone.shape[1]]
        worst = max(worst, float((alone - beside).abs().max()))
    bound = KL_BOUND_BITS if reader.lm.dtype == torch.float32 else 1.0
    return Check("padding changes no KL", f"{worst:.1e} bits", f"{bound:.0e} bits", worst <= bound)


def _alone(reader: PromptReader, prompt: TokenizedPrompt) -> BatchReading:
    (batch,) = batches([prompt], 2**31)
    return reader.read(batch)


COMMAND = Selftest
