"""Times the mean Jacobian of all rows: `python -m benchmarks.jacobian`.

The same gradients, of the same sequences and output dimensions, are taken in three ways:

* ours: one forward pass of a batch of sequences with a graph, and one backward pass for each dimension;
* vmapped: the same graph, and one backward pass for all dimensions together (``is_grads_batched``);
* replicated: one forward pass for each sequence, replicated once for each of ``--dim_batch`` dimensions, as the
  reference implementation and TransformerLens do.

If TransformerLens is installed, its own fit of the same sequences is timed, too, on all dimensions and rows 1 … n − 1.
Peak memory is measured with ``--peak``, on CUDA or, on Linux, in a process for each.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import describe, load_average
from benchmarks.peak import peak_here, peaks_apart
from benchmarks.timing import alternate, ratio
from logos_pl.api import load_model
from logos_pl.lm.frozen import Forward, FrozenLM
from logos_pl.lm.hooks import gathering
from logos_pl.lm.row_gradients import mean_gradients

SKIP_FIRST = 16


def main(arguments: list[str]) -> None:
    """Print the table of one run."""
    given = _parser().parse_args(arguments)
    before = load_average()
    lm = load_model(given.model, dtype=given.dtype, device=given.device)
    ids = _sequences(lm, given.seqs, given.seq_len)
    dims = lm.d_model if given.dims is None else min(given.dims, lm.d_model)
    work = variants(lm, ids, dims, given.dim_batch)
    if given.only is not None:
        print(peak_here(work[given.only], lm.device))
        return
    if given.peak:
        print(_peaks(work, given, arguments, lm.device))
        return
    clock = time.process_time if given.cpu_time else time.perf_counter
    times = alternate(work, given.repeats, lm.device, warm_up=0, clock=clock)
    print(describe(lm.device, before))
    print(
        f"{lm.model_id}: {lm.num_blocks} blocks, d={lm.d_model}, {lm.dtype}; [{given.seqs}, {given.seq_len}] tokens, "
    )
    print(
        f"{dims} of {lm.d_model} output dimensions; {'CPU' if given.cpu_time else 'wall'} time, {given.repeats} rounds"
    )
    for name in work:
        seconds, of = median(times[name]), ratio(times, name, "forward")
        each = seconds * 1e3 / given.seqs
        print(f"{name:16} {seconds * 1e3:10,.0f} ms {each:10,.1f} ms a sequence {of.median:8.1f} / forward")
    theirs = transformer_lens(given.model, lm, ids, given.dim_batch, clock) if dims == lm.d_model else None
    if theirs is not None:
        print(f"{'TransformerLens':16} {theirs * 1e3:10,.0f} ms {theirs * 1e3 / given.seqs:10,.1f} ms a sequence, once")


def variants(lm: FrozenLM, ids: Tensor, dims: int, dim_batch: int) -> dict[str, Callable[[], object]]:
    """The forward pass alone, and each way to the gradients of the first dimensions."""
    wanted = torch.arange(dims).expand(len(ids), -1)
    return {
        "forward": lambda: lm.run([Forward(ids)]),
        "ours": lambda: [found.sum() for found in mean_gradients(lm, ids, wanted, SKIP_FIRST)],
        "vmapped": lambda: vmapped(lm, ids, dims, dim_batch),
        "replicated": lambda: [replicated(lm, one, dims, dim_batch) for one in ids],
    }


def vmapped(lm: FrozenLM, ids: Tensor, dims: int, dim_batch: int) -> Tensor:
    """Gradients [dims, rows, batch, d_model], some dimensions in one call."""
    rows, found = _graph(lm, ids), []
    for first in range(0, dims, dim_batch):
        some = range(first, min(first + dim_batch, dims))
        wanted = torch.zeros(len(some), *rows[-1].shape, device=lm.device, dtype=rows[-1].dtype)
        for number, dim in enumerate(some):
            wanted[number, :, SKIP_FIRST:-1, dim] = 1
        grads = torch.autograd.grad(rows[-1], rows[:-1], wanted, retain_graph=True, is_grads_batched=True)
        found.append(torch.stack([of[:, :, SKIP_FIRST:-1].float().mean(2) for of in grads], dim=1))
    return torch.cat(found)


def replicated(lm: FrozenLM, ids: Tensor, dims: int, dim_batch: int) -> Tensor:
    """Gradients [dims, rows, d_model] of one sequence, replicated in the batch for each dimension."""
    rows, found = _graph(lm, ids.expand(dim_batch, -1)), []
    for first in range(0, dims, dim_batch):
        wanted = torch.zeros_like(rows[-1])
        for number, dim in enumerate(range(first, min(first + dim_batch, dims))):
            wanted[number, SKIP_FIRST:-1, dim] = 1
        grads = torch.autograd.grad(rows[-1], rows[:-1], wanted, retain_graph=True)
        found.append(torch.stack([of[:, SKIP_FIRST:-1].float().mean(1) for of in grads], dim=1))
    return torch.cat(found)[:dims]


def _graph(lm: FrozenLM, ids: Tensor) -> list[Tensor]:
    rows: list[Tensor] = []
    blocks = lm.anatomy.blocks

    def begin(h: Tensor | None) -> None:
        assert h is not None
        rows.append(h.requires_grad_(True))

    def follow(h: Tensor | None) -> None:
        assert h is not None
        rows.append(h)

    with torch.enable_grad(), gathering([(blocks[0], begin)], [(block, follow) for block in blocks]):
        lm.anatomy.body(input_ids=ids.to(lm.device), use_cache=False)
    return rows


def transformer_lens(model: str, lm: FrozenLM, ids: Tensor, dim_batch: int, clock: Callable[[], float]) -> float | None:
    """Seconds of TransformerLens's own fit of the same sequences; None if it is not installed."""
    try:
        bridge: Any = importlib.import_module("transformer_lens.model_bridge").TransformerBridge
        lens: Any = importlib.import_module("transformer_lens.tools.analysis").JacobianLens
    except ImportError:
        return None
    booted = bridge.boot_transformers(model, device=str(lm.device))
    booted.to_tokens = lambda prompt: ids[int(prompt)][None]  # the same tokens, whatever the tokenizer does
    start = clock()
    lens.fit(booted, [str(number) for number in range(len(ids))], corpus="random", dim_batch=dim_batch,
             max_seq_len=ids.shape[1], show_progress=False)  # fmt: skip
    return clock() - start


def _peaks(work: dict[str, Any], given: argparse.Namespace, arguments: list[str], device: torch.device) -> str:
    lines = []
    for name in work:
        if device.type == "cuda":
            num_bytes = peak_here(work[name], device)
        else:
            (num_bytes,) = peaks_apart("benchmarks.jacobian", ["--only", name, *arguments], device)
        lines.append(f"{name:16} {num_bytes / 2**20:10,.0f} MiB")
    return "\n".join(lines)


def _sequences(lm: FrozenLM, num_seqs: int, seq_len: int) -> Tensor:
    return torch.randint(lm.vocab_size, (num_seqs, seq_len), generator=torch.Generator().manual_seed(0))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jacobian", description=__doc__)
    parser.add_argument("--model", default="demo", help="Hub id or folder")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seqs", type=int, default=8, help="sequences of the batch")
    parser.add_argument("--seq_len", type=int, default=128)
    parser.add_argument("--dims", type=int, help="output dimensions; default: all")
    parser.add_argument("--dim_batch", type=int, default=8, help="dimensions in one backward pass, where not ours")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu_time", action="store_true", help="CPU time of the process instead of wall clock")
    parser.add_argument("--peak", action="store_true", help="peak memory instead of time")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
