"""Memory of a training step: model and lens, and the peak of a step in addition to them.

On the CPU each peak is measured in its own process.
"""

import sys
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.peak import peak_here, peaks_apart
from benchmarks.settings import Settings, make_data, make_model, make_tuning, parse
from benchmarks.step import Training, make_batch, make_training
from logos_pl.data.packed_text import TextBatch
from logos_pl.lm.frozen import Forward, FrozenLM

ACCUMULATED = 4
"""Number of micro-batches of the step with gradient accumulation."""


class StepMemory(NamedTuple):
    """Bytes at one vocabulary size, with all rows trained.

    Attributes:
        vocab: Vocabulary size.
        model_bytes: The frozen model, and the fp32 copy of the head if there is one; counted.
        lens_bytes: Translators and bias-only lens, and AdamW's moments of both; counted.
        forward_peak_bytes: Peak of the body alone, in addition to the model.
        step_peak_bytes: Peak of a step with its gradients, in addition to model, lens and moments.
        accumulated_peak_bytes: The same for a step of four micro-batches.
    """

    vocab: int
    model_bytes: int
    lens_bytes: int
    forward_peak_bytes: int
    step_peak_bytes: int
    accumulated_peak_bytes: int


def measure_memory(settings: Settings, arguments: list[str], lm: FrozenLM, vocab_size: int | None) -> StepMemory:
    """Measure the memory at one vocabulary size.

    Args:
        settings: Settings of the run.
        arguments: The command line, for a child process.
        lm: The model; used directly if memory is measured in this process.
        vocab_size: Its vocabulary size.

    Raises:
        InputError: Memory cannot be measured on this device.
        RunError: The measuring process died.
    """
    training, batch = prepare(settings, lm)
    if lm.device.type == "cuda":
        peaks = peaks_here(lm, training, batch)
    else:
        words = [str(vocab_size or 0), str(torch.get_num_threads()), *arguments]
        peaks = peaks_apart("benchmarks.step_memory", words, lm.device)
        training.step(1)
    moments = [tensor for state in training.optimizer.state.values() for tensor in state.values()]
    frozen = [*lm.model.parameters(), *lm.model.buffers(), training.module.head.unembedding.weight]
    held = [*training.module.parameters(), *moments]
    return StepMemory(lm.vocab_size, storage_bytes(frozen), storage_bytes(held), *peaks)


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of all tensors, counting shared ones once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def prepare(settings: Settings, lm: FrozenLM) -> tuple[Training, TextBatch]:
    """Training of all rows, and the micro-batch that it trains on."""
    batch = make_batch(lm, make_data(settings, lm))
    return make_training(lm, make_tuning(settings, lm), lm.num_blocks - 1, batch), batch


def peaks_here(lm: FrozenLM, training: Training, batch: TextBatch) -> list[int]:
    """Measure in this process: the body alone, a step, and a step with gradient accumulation."""
    works = [
        lambda: lm.run([Forward(batch.input_ids)]),
        lambda: training.step(1),
        lambda: training.step(ACCUMULATED),
    ]
    # The first step allocates moments, library workspaces and code.
    training.step(1)
    return [peak_here(work, lm.device) for work in works]


def main(vocab_size: str, threads: str, *arguments: str) -> None:
    """Print the peaks, in bytes."""
    torch.set_num_threads(int(threads))
    settings = parse(list(arguments))
    lm = make_model(settings.model, settings.run, int(vocab_size) or None)
    print(*peaks_here(lm, *prepare(settings, lm)))


if __name__ == "__main__":
    main(*sys.argv[1:])
