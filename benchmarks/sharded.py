"""Memory and speed of a model that processes of this machine have together: `python -m benchmarks.sharded FOLDER`.

First one process with the whole model, then several with a part each; on the CPU, one thread each.
`scripts/make_large_model.py` makes a model to measure.
"""

import argparse
import ctypes
import gc
import hashlib
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import distributed

from benchmarks.report import table
from logos_pl.lm.devices import Placement
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request, read_in_groups


class Measured(NamedTuple):
    """What a process took.

    Attributes:
        kept: Bytes of memory that the process has more of with the model than without, files that are mapped included.
        peak: The most resident memory, libraries included.
        seconds: Time of reading the micro-batches.
        digest: Hash of every row.
    """

    kept: int
    peak: int
    seconds: float
    digest: str


def of_status(key: str) -> int:
    """Bytes that the system counts for this process, such as `VmRSS` or `VmHWM`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def resident_bytes() -> int:
    """Memory of this process now; what torch has freed is given back first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return of_status("VmRSS")


def measure(rank: int, processes: int, folder: str, dtype: str, tokens: int, store: str, answers: Any) -> None:
    """Load the model and read micro-batches, the same in each process, and put what it took into a queue."""
    torch.set_num_threads(1)
    if processes > 1:
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)
    placement: Placement = "sharded" if processes > 1 else "resident"
    before = resident_bytes()
    lm = FrozenLM.load(folder, dtype=dtype, placement=placement)
    ids = torch.randint(lm.vocab_size, (4, tokens // 4), generator=torch.Generator().manual_seed(0))
    requests = [Request(part[None], None, range(lm.num_blocks + 1)) for part in ids]
    digest, began = hashlib.sha256(), time.perf_counter()
    for _, found in read_in_groups(lm, requests, lambda request: request):
        digest.update(found.rows.contiguous().view(torch.uint8).numpy().data)
    seconds = time.perf_counter() - began
    answers.put((rank, Measured(resident_bytes() - before, of_status("VmHWM"), seconds, digest.hexdigest()[:12])))
    if processes > 1:
        distributed.destroy_process_group()


def in_processes(processes: int, *given: Any) -> list[Measured]:
    """What each of so many processes took."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = (*given, f"{scratch}/store", answers)
        started = [context.Process(target=measure, args=(rank, processes, *arguments)) for rank in range(processes)]
        for process in started:
            process.start()
        found = dict(answers.get() for _ in started)
        for process in started:
            process.join()
    return [found[rank] for rank in range(processes)]


def main(arguments: list[str]) -> int:
    """Measure, and print a table.

    Returns:
        Exit status: 1 if the rows are not the same.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharded")
    parser.add_argument("folder")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tokens", type=int, default=512, help="in four micro-batches of one sequence")
    given = parser.parse_args(arguments)
    rows, digests = [], set()
    for processes in given.processes:
        for rank, found in enumerate(in_processes(processes, given.folder, given.dtype, given.tokens)):
            digests.add(found.digest)
            sizes = (f"{found.kept / 1e9:.2f} GB", f"{found.peak / 1e9:.2f} GB")
            rate = f"{given.tokens / found.seconds:,.1f}"
            rows.append([f"{processes}", f"{rank}", *sizes, rate, found.digest])
    print(table(["processes", "rank", "model", "peak", "tokens/s of each", "rows"], rows))
    return int(len(digests) > 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
