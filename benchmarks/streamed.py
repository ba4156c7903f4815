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

import torch

from benchmarks.report import table
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request, read_in_groups

POSITIONS = 16


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
    parser.add_argument("--cpu_time", action="store_true", help="of all threads, for a busy machine; leaves out waits")
    given = parser.parse_args(arguments)
    clock = time.process_time if given.cpu_time else time.perf_counter
    read: dict[str, list[float]] = {}
    for name in ("resident", "streamed"):
        lm = FrozenLM.load(
            str(given.folder),
            dtype=given.dtype,
            device=given.device,
            placement=name,
            group_tokens=max(given.tokens),
        )
        for kind in ("warm", "cold") if name == "streamed" else ("warm",):
            before = (lambda: drop_from_cache(given.folder)) if kind == "cold" else (lambda: None)
            for tokens in given.tokens:
                requests = requests_of(lm, tokens, given.seq_len, given.micro_batch_seqs)
                count = sum(request.input_ids.numel() for request in requests)
                rate = count / seconds_of(lm, requests, before, given.repeats, clock)
                read.setdefault(f"{name} {kind}", []).append(rate)
                print(f"{name}, {kind} cache, {tokens} tokens: {rate:,.1f} tokens/s", flush=True)
        del lm
    resident, warm, cold = read["resident warm"], read["streamed warm"], read["streamed cold"]
    rows = [
        [f"{tokens:,}", *(f"{rate:,.1f}" for rate in (a, b, c)), f"{b / a:.2f}", f"{c / a:.2f}"]
        for tokens, a, b, c in zip(given.tokens, resident, warm, cold, strict=True)
    ]
    heads = ["tokens per group", "resident", "streamed, cached", "streamed, from disk", "cached / resident"]
    print(table([*heads, "from disk / resident"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
