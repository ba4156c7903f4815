"""The training step against the forward pass of the model's body alone."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from benchmarks.flop import count_flop
from benchmarks.machine import Product, peaks_flop_per_s, products, short
from benchmarks.timing import Clock, Ratio, Times, alternate, ratio
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.training_text import TrainingText
from logos_pl.fit.module import TuningModule
from logos_pl.fit.progress import FitProgress
from logos_pl.functional.positions import sample_positions
from logos_pl.lm import frozen
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.lens import TuningSettings

FORWARD, LOG = "forward", "log"
LOGGED_STEPS = 10
"""Steps between two progress updates of a fit."""


class Forward(NamedTuple):
    """Measurement of the body alone: no head, no hooks.

    Attributes:
        tokens: Tokens in the micro-batch.
        seconds: Median time.
        tokens_per_s: Tokens per second.
        flop: Counted operations.
        mfu: Counted operations per second, as a fraction of the peak.
    """

    tokens: int
    seconds: float
    tokens_per_s: float
    flop: int
    mfu: float


class Step(NamedTuple):
    """Measurement of a training step with one micro-batch and one optimiser step.

    Attributes:
        rows: Rows trained.
        pairs: (row, position) pairs.
        seconds: Median time.
        to_forward: Ratio to the body alone.
        tokens_per_s: Tokens read.
        pairs_per_s: Pairs of row and position trained on.
        added_flop: Counted operations in addition to those of the body.
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
    """Forward and steps on the same micro-batch, timed alternately with the matrix products that give the peaks.

    Attributes:
        model: Its name.
        num_blocks: Its blocks.
        d_model: Its width.
        vocab: Its vocabulary.
        dtype: Its number format.
        head_dtype: Number format of the unembedding.
        seq_len: Tokens per sequence.
        micro_batch_seqs: Sequences.
        positions_per_seq: Positions trained on in each.
        rank: Rank of the translators.
        peaks_flop_per_s: Rate of the best matrix product, by number format.
        forward: Measurement of the body alone.
        steps: Measurements of training steps.
        log_seconds: Average cost per step of progress and TensorBoard, including every row's KL.
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
    log_seconds: float


def row_counts(num_blocks: int) -> list[int]:
    """Numbers of rows to measure: one, half of the inner rows, all of them."""
    inner = num_blocks - 1
    return sorted({1, max(1, inner // 2), inner})


def make_batch(lm: FrozenLM, data: TrainingText) -> TextBatch:
    """Random tokens, and positions as sampled by a fit."""
    text = data.settings
    size, positions = int(text.micro_batch_seqs), int(text.positions_per_seq)
    ids = torch.randint(0, lm.vocab_size, (size, text.seq_len), generator=torch.Generator().manual_seed(316))
    drawn = [sample_positions(data.seed, index, text.seq_len, positions, text.drawn_range) for index in range(size)]
    return TextBatch(ids.to(lm.device), torch.stack(drawn).to(lm.device), {})


class Training(NamedTuple):
    """A lens module and its optimiser step.

    Attributes:
        module: The lens.
        optimizer: The optimiser it configures.
        step: Forward and backward over this many micro-batches, optimiser and schedule.
    """

    module: TuningModule
    optimizer: torch.optim.Optimizer
    step: Callable[[int], None]


def make_training(lm: FrozenLM, tuning: TuningSettings, rows: int, batch: TextBatch) -> Training:
    """Training of `rows` rows on a fixed micro-batch."""
    module = TuningModule(replace(tuning, layers_per_step=rows)).to(lm.device)
    module.build(lm)
    module.to(lm.device)
    # Minimal stand-in for the trainer, as a real one would add its loop to the time.
    trainer = SimpleNamespace(datamodule=SimpleNamespace(total_steps=10**6), global_step=0)
    module.trainer = cast(Trainer, trainer)
    made = cast(dict[str, Any], module.configure_optimizers())
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]

    def step(micro_batches: int) -> None:
        for _ in range(micro_batches):
            (module.training_step(batch, 0)["loss"] / micro_batches).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        trainer.global_step += 1

    return Training(module, optimizer, step)


def measure_step(lm: FrozenLM, tuning: TuningSettings, data: TrainingText, repeats: int, clock: Clock) -> StepFigures:
    """Time forward, steps, logging and matrix products alternately."""
    batch = make_batch(lm, data)
    made = {rows: make_training(lm, tuning, rows, batch) for rows in row_counts(lm.num_blocks)}
    module = made[max(made)].module
    plain = _plain_products(lm, module, batch)
    variants: dict[str, Callable[[], object]] = {FORWARD: lambda: lm.run([frozen.Forward(batch.input_ids)])}
    variants |= {_name(rows): partial(training.step, 1) for rows, training in made.items()}
    counted = {name: count_flop(work) for name, work in variants.items()}
    variants |= {product.name: product.work(lm.device) for product in plain}
    with logging_of(module, batch) as log:
        times = alternate(variants | {LOG: log}, repeats, lm.device, clock=clock)
    peaks = peaks_flop_per_s(plain, times)
    weight = module.head.unembedding.weight
    return StepFigures(
        lm.model_id,
        lm.num_blocks,
        lm.d_model,
        lm.vocab_size,
        short(lm.dtype),
        short(weight.dtype),
        data.settings.seq_len,
        batch.input_ids.shape[0],
        batch.positions.shape[1],
        module.translators.rank,
        peaks,
        _forward(times, batch, counted[FORWARD], peaks[short(lm.dtype)]),
        [_step(times, batch, rows, counted, 4 * weight.numel(), peaks[short(weight.dtype)]) for rows in made],
        median(times[LOG]) / LOGGED_STEPS,
    )


@contextmanager
def logging_of(module: TuningModule, batch: TextBatch) -> Iterator[Callable[[], None]]:
    """Work of a fit's progress over `LOGGED_STEPS` steps: one update, written to TensorBoard."""
    with tempfile.TemporaryDirectory(prefix="logos-pl-log-") as folder:
        progress, logger = FitProgress(every_n_steps=LOGGED_STEPS), TensorBoardLogger(folder)
        progress.disable()
        optimizers = [SimpleNamespace(param_groups=[{"lr": 0.0}])]
        trainer: Any = SimpleNamespace(
            global_step=0,
            max_steps=10**6,
            world_size=1,
            accumulate_grad_batches=1,
            logger=logger,
            optimizers=optimizers,
        )
        progress.on_train_start(trainer, module)

        def log() -> None:
            for _ in range(LOGGED_STEPS):
                trainer.global_step += 1
                progress.on_train_batch_start(trainer, module, batch, 0)
                progress.on_train_batch_end(trainer, module, None, batch, 0)

        yield log
        logger.experiment.close()


def _name(rows: int) -> str:
    return f"step with {rows} rows"


def _plain_products(lm: FrozenLM, module: TuningModule, batch: TextBatch) -> list[Product]:
    """Matrix products for the peaks: of the lens's shape, of a gated MLP's shape for the body, and a large square."""
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
