"""The training step against the forward pass of the model's body alone."""

from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch import Trainer

from benchmarks.flop import count_flop
from benchmarks.machine import Product, peaks_flop_per_s, products, short
from benchmarks.timing import Ratio, Times, alternate, ratio
from logos_pl.data.datamodule import LensDataModule
from logos_pl.data.packed_text import TextBatch
from logos_pl.functional.positions import sample_positions
from logos_pl.lm.frozen import FrozenLM
from logos_pl.modules.tuning import LensTuning

FORWARD = "forward"


class Forward(NamedTuple):
    """The body alone: no head, no hooks.

    Attributes:
        tokens: In the micro-batch.
        seconds: Median.
        tokens_per_s: Of the two.
        flop: Counted.
        mfu: Counted operations over time and peak.
    """

    tokens: int
    seconds: float
    tokens_per_s: float
    flop: int
    mfu: float


class Step(NamedTuple):
    """A whole training step, an optimiser step after each micro-batch included.

    Attributes:
        rows: Rows trained.
        pairs: (row, position) pairs.
        seconds: Median.
        to_forward: Ratio to the body alone.
        tokens_per_s: Tokens read.
        pairs_per_s: Pairs learned from.
        added_flop: Counted operations beyond the body's.
        lens_mfu: 4·d·V per pair, over the time beyond the body's and the peak; None where that time is lost in noise.
    """

    rows: int
    pairs: int
    seconds: float
    to_forward: Ratio
    tokens_per_s: float
    pairs_per_s: float
    added_flop: int
    lens_mfu: float | None


class StepFigures(NamedTuple):
    """Forward and steps on the same micro-batch, measured in turns with the products that give the peaks.

    Attributes:
        model: Its name.
        num_blocks: Its blocks.
        d_model: Its width.
        vocab: Its vocabulary.
        dtype: Its number format.
        head_dtype: That of the unembedding.
        seq_len: Tokens per sequence.
        micro_batch_seqs: Sequences.
        positions_per_seq: Positions trained on in each.
        rank: Of the translators.
        peaks_flop_per_s: Best plain product by number format.
        forward: The body alone.
        steps: The training steps.
    """

    model: str
    num_blocks: int
    d_model: int
    vocab: int
    dtype: str
    head_dtype: str
    seq_len: int
    micro_batch_seqs: int
    positions_per_seq: int
    rank: int
    peaks_flop_per_s: dict[str, float]
    forward: Forward
    steps: list[Step]


def row_counts(num_blocks: int) -> list[int]:
    """One row, half of the inner rows, all of them."""
    inner = num_blocks - 1
    return sorted({1, max(1, inner // 2), inner})


def make_batch(lm: FrozenLM, data: LensDataModule) -> TextBatch:
    """Random tokens, and positions as the data module draws them; `auto` must be settled."""
    size, positions = int(data.micro_batch_seqs), int(data.positions_per_seq)
    ids = torch.randint(0, lm.vocab_size, (size, data.seq_len), generator=torch.Generator().manual_seed(316))
    drawn = [sample_positions(data.seed, index, data.seq_len, positions, data.drawn_range) for index in range(size)]
    return TextBatch(ids.to(lm.device), torch.stack(drawn).to(lm.device), {})


def make_step(
    lm: FrozenLM, settings: dict[str, Any], rows: int, batch: TextBatch
) -> tuple[LensTuning, Callable[[], None]]:
    """A lens module that trains `rows` rows, and its step with the optimiser and schedule that it configures itself."""
    module = LensTuning(**(settings | {"layers_per_step": rows})).to(lm.device)
    module.build(lm)
    module.to(lm.device)
    # What the module asks its trainer for; a real one would add its loop to the time.
    trainer = SimpleNamespace(datamodule=SimpleNamespace(total_steps=10**6), global_step=0)
    module.trainer = cast(Trainer, trainer)
    made = cast(dict[str, Any], module.configure_optimizers())
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]

    def step() -> None:
        module.training_step(batch, 0)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        trainer.global_step += 1

    return module, step


def measure_step(lm: FrozenLM, settings: dict[str, Any], data: LensDataModule, repeats: int) -> StepFigures:
    """Forward, the steps and the plain products, in turns."""
    batch = make_batch(lm, data)
    made = {rows: make_step(lm, settings, rows, batch) for rows in row_counts(lm.num_blocks)}
    module = made[max(made)][0]
    plain = _plain_products(lm, module, batch)
    variants: dict[str, Callable[[], object]] = {FORWARD: lambda: lm.body(batch.input_ids)}
    variants |= {_name(rows): step for rows, (_, step) in made.items()}
    counted = {name: count_flop(work) for name, work in variants.items()}
    variants |= {product.name: product.work(lm.device) for product in plain}
    times = alternate(variants, repeats, lm.device)
    peaks = peaks_flop_per_s(plain, times)
    weight = module.head.unembedding.weight
    return StepFigures(
        lm.model_id,
        lm.num_blocks,
        lm.d_model,
        lm.vocab_size,
        short(lm.dtype),
        short(weight.dtype),
        data.seq_len,
        batch.input_ids.shape[0],
        batch.positions.shape[1],
        module.translators.rank,
        peaks,
        _forward(times, batch, counted[FORWARD], peaks[short(lm.dtype)]),
        [_step(times, batch, rows, counted, 4 * weight.numel(), peaks[short(weight.dtype)]) for rows in made],
    )


def _name(rows: int) -> str:
    return f"step with {rows} rows"


def _plain_products(lm: FrozenLM, module: LensTuning, batch: TextBatch) -> list[Product]:
    """For the lens a product like its own, for the body one of a gated MLP's shape; both with a large square."""
    vocab, d_head = module.head.unembedding.weight.shape
    pairs = (lm.num_blocks - 1) * batch.positions.numel()
    return list(
        {
            *products(pairs, d_head, vocab, module.head.unembedding.weight.dtype, lm.device),
            *products(batch.input_ids.numel(), lm.d_model, 4 * lm.d_model, lm.dtype, lm.device),
        }
    )


def _forward(times: Times, batch: TextBatch, flop: int, peak: float) -> Forward:
    seconds, tokens = median(times[FORWARD]), batch.input_ids.numel()
    return Forward(tokens, seconds, tokens / seconds, flop, flop / seconds / peak)


def _step(times: Times, batch: TextBatch, rows: int, counted: dict[str, int], flop_per_pair: int, peak: float) -> Step:
    name = _name(rows)
    seconds, pairs = median(times[name]), rows * batch.positions.numel()
    added = median(step - forward for step, forward in zip(times[name], times[FORWARD], strict=True))
    return Step(
        rows,
        pairs,
        seconds,
        ratio(times, name, FORWARD),
        batch.input_ids.numel() / seconds,
        pairs / seconds,
        counted[name] - counted[FORWARD],
        flop_per_pair * pairs / added / peak if added > 0 else None,
    )
