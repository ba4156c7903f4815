"""Tokens per second of a streamed model beside the same model in memory: `python -m benchmarks.streamed FOLDER`.

One pass over one group of micro-batches, every row kept at 16 positions of each sequence, by tokens per group; with the
files in the page cache, and read from disk. `scripts/make_large_model.py` makes a model to measure.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from benchmarks.overlap import measure_overlap
from benchmarks.report import table
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request, read_in_groups

POSITIONS = 16
KINDS = ["resident", "streamed, cached", "streamed, from disk"]


def requests_of(lm: FrozenLM, tokens: int, seq_len: int, micro_batch_seqs: int) -> list[Request]:
    """Micro-batches of random tokens that make one group."""
    generator = torch.Generator().manual_seed(0)
    positions = torch.linspace(0, seq_len - 1, POSITIONS).long().expand(micro_batch_seqs, -1)
    rows = range(lm.num_blocks + 1)
    return [
        Request(torch.randint(lm.vocab_size, (micro_batch_seqs, seq_len), generator=generator), positions, rows)
        for _ in range(max(1, tokens // (seq_len * micro_batch_seqs)))
    ]


def seconds_of(
    lm: FrozenLM, requests: list[Request], before: Callable[[], None], repeats: int, clock: Callable[[], float]
) -> float:
    """The shortest time of a pass over all requests."""
    found = []
    for _ in range(repeats):
        before()
        began = clock()
        for _ in read_in_groups(lm, requests, lambda request: request):
            pass
        if lm.device.type == "cuda":
            torch.cuda.synchronize()
        found.append(clock() - began)
    return min(found)


def drop_from_cache(folder: Path) -> None:
    """Take the weights out of the page cache, so that the next pass reads the disk."""
    for path in folder.glob("*.safetensors"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def body_flop_per_token(lm: FrozenLM) -> int:
    """Operations of the blocks' matrix products per token, without attention's own."""
    return 2 * sum(part.numel() for block in lm.anatomy.blocks for part in block.parameters() if part.ndim > 1)


def load(given: argparse.Namespace, placement: Literal["resident", "streamed"]) -> FrozenLM:
    """The model in memory, or on disk."""
    return FrozenLM.load(
        str(given.folder),
        dtype=given.dtype,
        device=given.device,
        placement=placement,
        group_tokens=max(given.tokens),
    )


def measure(given: argparse.Namespace) -> dict[str, list[float]]:
    """Tokens per second of each placement and state of the cache, by tokens per group."""
    clock = time.process_time if given.cpu_time else time.perf_counter
    found: dict[str, list[float]] = {}
    for placement, cache in (("resident", "cached"), ("streamed", "cached"), ("streamed", "from disk")):
        name = "resident" if placement == "resident" else f"streamed, {cache}"
        if name not in given.measure:
            continue
        lm = load(given, placement)  # type: ignore[arg-type]
        before = (lambda: drop_from_cache(given.folder)) if cache == "from disk" else (lambda: None)
        for tokens in given.tokens:
            requests = requests_of(lm, tokens, given.seq_len, given.micro_batch_seqs)
            count = sum(request.input_ids.numel() for request in requests)
            rate = count / seconds_of(lm, requests, before, given.repeats, clock)
            found.setdefault(name, []).append(rate)
            tera = rate * body_flop_per_token(lm) / 1e12
            print(f"{name}, {tokens:,} tokens: {rate:,.1f} tokens/s, {tera:,.2f} TFLOP/s", flush=True)
            if lm.device.type == "cuda" and placement == "streamed":
                shown = measure_overlap(lambda: seconds_of(lm, requests, before, 1, clock))  # noqa: B023
                print("  " + ", ".join(f"{part} {value:.2f} s" for part, value in shown._asdict().items()), flush=True)
        del lm
    return found


def main(arguments: list[str]) -> int:
    """Measure, and print a table.

    Returns:
        Exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streamed")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--seq_len", type=int, default=512)
    parser.add_argument("--micro_batch_seqs", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--measure", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--cpu_time", action="store_true", help="of all threads, for a busy machine; leaves out waits")
    given = parser.parse_args(arguments)
    found = measure(given)
    rows = [
        [f"{tokens:,}", *(f"{rates[at]:,.1f}" for rates in found.values())]
        + [
            f"{rates[at] / found['resident'][at]:.2f}"
            for name, rates in found.items()
            if "resident" in found and name != "resident"
        ]
        for at, tokens in enumerate(given.tokens)
    ]
    print(
        table(
            [
                "tokens per group",
                *found,
                *(f"{name} / resident" for name in found if "resident" in found and name != "resident"),
            ],
            rows,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
