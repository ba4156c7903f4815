"""Which model fits which card, by the memory estimate that chooses devices: `python -m benchmarks.cards`.

Its tables are those of docs/memory.md. Nothing is measured or downloaded; sizes are in `benchmarks.architectures`.
"""

import sys

import torch

from benchmarks.architectures import ARCHITECTURES
from benchmarks.report import table
from logos_pl.cli.diagnosis import fit_step
from logos_pl.errors import InputError
from logos_pl.lm.devices import DeviceMemory, choose_device, largest_micro_batch
from logos_pl.lm.memory import MemoryParts, ModelShape, StepSize, StreamedParts, memory_parts, streamed_parts
from logos_pl.lm.model_shape import shape_of
from logos_pl.lm.sources import clean_name

CARDS_GB = [16, 24, 40, 80, 141]
# Block sizes of logits: the default, and a smaller one if a model then fits or the micro-batch doubles.
BLOCKS_MIB = [256, 64]
MODELS = [
    "HuggingFaceTB/SmolLM2-135M",
    "Qwen/Qwen3-0.6B-Base",
    "mistralai/Mistral-7B-v0.1",
    "meta-llama/Meta-Llama-3-8B",
    "Qwen/Qwen3-8B-Base",
    "google/gemma-2-9b",
    "Qwen/Qwen3-14B-Base",
    "mistralai/Mistral-Small-24B-Base-2501",
    "google/gemma-2-27b",
    "01-ai/Yi-34B",
    "meta-llama/Meta-Llama-3-70B",
]
STREAMED = [
    "meta-llama/Meta-Llama-3-8B",
    "google/gemma-2-27b",
    "01-ai/Yi-34B",
    "meta-llama/Meta-Llama-3-70B",
    "Qwen/Qwen2.5-72B",
]
SHARDED, SHARES, SHARED_CARDS_GB = STREAMED[-2:], [2, 4, 8], CARDS_GB[1:]
HOST_GB = 128
EXAMPLE, EXAMPLE_SEQS = "meta-llama/Meta-Llama-3-8B", [8, 16, 32]


def step_of(shape: ModelShape, block_mib: int = 256, micro_batch_seqs: int | None = None) -> StepSize:
    """A step as a fit's defaults have it."""
    return fit_step(shape)._replace(loss_block_mib=block_mib, micro_batch_seqs=micro_batch_seqs)


def parts_of(shape: ModelShape, step: StepSize) -> MemoryParts:
    """Estimate on CUDA in bfloat16."""
    return memory_parts(shape, "cuda", torch.bfloat16, step)


def settings_of(shape: ModelShape, card_gb: int) -> str:
    """Table cells of a card: micro-batch and block of logits; a dash if the model does not fit."""
    card = DeviceMemory("cuda:0", card_gb * 10**9, card_gb * 10**9)
    best = (0, 0)
    for block in BLOCKS_MIB:
        seqs = largest_micro_batch(shape, card, torch.bfloat16, step_of(shape, block))
        if parts_of(shape, step_of(shape, block, seqs)).total <= card.total_bytes and seqs > best[0]:
            best = (seqs, block)
    return "–" if best == (0, 0) else f"{best[0]} × {32 // best[0]}, {best[1]} MiB"


def example_table() -> str:
    """Memory estimate of one model, by micro-batch."""
    shape = shape_of(ARCHITECTURES[EXAMPLE])
    rows = []
    for seqs in EXAMPLE_SEQS:
        parts = parts_of(shape, step_of(shape, micro_batch_seqs=seqs))
        rows.append([f"{seqs}", *(f"{part / 1e9:.2f}" for part in (*parts, parts.total))])
    return table(["micro-batch", *MemoryParts._fields, "all"], rows)


def cards_table() -> str:
    """Table of every model on every card."""
    rows = []
    for model in MODELS:
        shape = shape_of(ARCHITECTURES[model])
        rows.append([clean_name(model), *(settings_of(shape, card) for card in CARDS_GB)])
    return table(["", *(f"{card} GB" for card in CARDS_GB)], rows)


def streamed_to(shape: ModelShape, card_gb: int) -> tuple[int, int, StreamedParts]:
    """Micro-batch and tokens per group that `auto` gives for a streamed model, and its memory.

    Raises:
        InputError: It does not fit.
    """
    card = DeviceMemory("cuda:0", card_gb * 10**9, card_gb * 10**9)
    host = DeviceMemory("cpu", HOST_GB * 10**9, HOST_GB * 10**9)
    choice = choose_device(
        shape, [card, host], override="cuda", step=step_of(shape), dtype=torch.bfloat16, placement="streamed"
    )
    assert choice.group_tokens is not None
    step = step_of(shape, micro_batch_seqs=choice.micro_batch_seqs)
    parts = streamed_parts(shape, "cuda", torch.bfloat16, step, choice.group_tokens)
    return choice.micro_batch_seqs, choice.group_tokens, parts


def streamed_table() -> str:
    """What a streamed model takes of each card, and of its host."""
    rows = []
    for model in STREAMED:
        shape = shape_of(ARCHITECTURES[model])
        cells = []
        for card_gb in CARDS_GB:
            try:
                seqs, tokens, parts = streamed_to(shape, card_gb)
            except InputError:
                cells.append("–")
                continue
            device, on_host = parts.on_device("cuda") / 1e9, parts.on_host / 1e9
            cells.append(f"{seqs} × {32 // seqs}, {tokens:,}: {device:.1f} + {on_host:.1f}")
        rows.append([clean_name(model), *cells])
    return table(["", *(f"{card} GB" for card in CARDS_GB)], rows)


def sharded_over(shape: ModelShape, cards: int, card_gb: int) -> str:
    """Table cell of so many cards: micro-batch of each and what it takes; a dash if the model does not fit."""
    card = DeviceMemory("cuda:0", card_gb * 10**9, card_gb * 10**9)
    step = step_of(shape)._replace(step_seqs=32 // cards)
    try:
        choice = choose_device(shape, [card], step=step, dtype=torch.bfloat16, placement="sharded", processes=cards)
    except InputError:
        return "–"
    micro = choice.micro_batch_seqs
    return f"{micro} × {step.step_seqs // micro}: {choice.needed_bytes / 1e9:.1f}"


def sharded_table() -> str:
    """What each of several cards takes of a sharded model."""
    rows = []
    for model in SHARDED:
        shape = shape_of(ARCHITECTURES[model])
        for cards in SHARES:
            cells = [sharded_over(shape, cards, card_gb) for card_gb in SHARED_CARDS_GB]
            rows.append([clean_name(model), f"{cards}", *cells])
    return table(["", "cards", *(f"{card} GB" for card in SHARED_CARDS_GB)], rows)


def main() -> int:
    """Print all tables.

    Returns:
        Exit status.
    """
    print(f"GB (10⁹ bytes) of a step of {clean_name(EXAMPLE)} in bfloat16 on CUDA, by sequences in a micro-batch\n")
    print(example_table())
    print("\nSequences in a micro-batch × accumulated micro-batches, and the block of logits, by card\n")
    print(cards_table())
    print("\nStreamed: micro-batch as above, tokens per group: GB on the card + GB on the host\n")
    print(streamed_table())
    print("\nSharded: micro-batch of each card × accumulated: GB on each card\n")
    print(sharded_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
