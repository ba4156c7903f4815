"""Measures the data pipeline alone: reading, tokenising and packing, with the worker of a fit."""

import time
from statistics import median
from typing import NamedTuple

from logos_pl.data.training_text import PREFETCH_BATCHES, TrainingText
from logos_pl.errors import RunError

MAX_BATCHES_PER_REPEAT = 20


class DataFigures(NamedTuple):
    """Rate of the training loader with nothing else running.

    Attributes:
        dataset: Dataset.
        tokenizer: Model of the tokenizer.
        num_workers: Processes that read ahead.
        batches: Micro-batches timed, without those that were in the queue at the start.
        tokens: Tokens in them.
        start_seconds: Time to the first batch: starting the workers and opening the shards.
        tokens_per_s: Median over the repeats.
        to_step: Ratio to the tokens per second of the step with all rows.
    """

    dataset: str
    tokenizer: str
    num_workers: int
    batches: int
    tokens: int
    start_seconds: float
    tokens_per_s: float
    to_step: float


def measure_data(data: TrainingText, repeats: int, step_tokens_per_s: float) -> DataFigures:
    """Take batches as fast as possible, reporting each to the data module as training does.

    Raises:
        InputError: The dataset or the tokenizer is not available.
        RunError: The token budget is too small to measure anything.
    """
    data.setup("fit")
    batches = data.train_dataloader()
    # Without a pause, so that the queue cannot fill up in the meantime.
    skipped = data.settings.num_workers * PREFETCH_BATCHES
    per_repeat = min(MAX_BATCHES_PER_REPEAT, (data.batches_to_validation() - 1 - skipped) // repeats)
    if per_repeat < 1:
        raise RunError("--data.tokens is too small to time the data pipeline: give at least a hundred micro-batches.")
    tokens, seconds = [], []
    start = time.perf_counter()
    try:
        iterator = iter(batches)
        data.advance(next(iterator).cursors)
        first = time.perf_counter() - start
        for _ in range(skipped):
            data.advance(next(iterator).cursors)
        for _ in range(repeats):
            start, taken = time.perf_counter(), 0
            for _ in range(per_repeat):
                batch = next(iterator)
                taken += batch.input_ids.numel()
                data.advance(batch.cursors)
            seconds.append(time.perf_counter() - start)
            tokens.append(taken)
    finally:
        data.teardown()
    rate = median(taken / passed for taken, passed in zip(tokens, seconds, strict=True))
    return DataFigures(
        data.settings.dataset,
        data.model_id,
        data.settings.num_workers,
        per_repeat * repeats,
        sum(tokens),
        first,
        rate,
        rate / step_tokens_per_s,
    )
