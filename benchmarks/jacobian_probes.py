"""Errors of the mean Jacobian by ways to choose probes: `python -m benchmarks.jacobian_probes`.

The Jacobians of some sequences are taken exactly. Then their mean is estimated from a number of backward passes of each
sequence, in four ways, and compared with the exact mean of the same sequences:

* dimensions: output dimensions dealt out evenly, as `logos-pl jacobian` does;
* signs: random vectors of ±1, (1/K) Σ v (vᵀ J);
* orthogonal: the same with random orthonormal vectors of each sequence, (d/K) Σ q (qᵀ J);
* signs of J − 1: random signs, of the Jacobian without the identity that the residual stream carries.
"""

import argparse
import sys
from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor

from logos_pl.api import load_model
from logos_pl.data.training_text import TrainingText
from logos_pl.functional.mean_jacobian import probed_dimensions
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.row_gradients import mean_gradients
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TrainingTextSettings

SKIP_FIRST, MICRO_BATCH, SEQ_LEN = 16, 8, 128


def main(arguments: list[str]) -> None:
    """Print the table."""
    given = _parser().parse_args(arguments)
    lm = load_model(given.model, dtype="float32", device="cpu")
    of = jacobians(lm, given.model, given.dataset, given.seqs)
    rows = sorted({round(share * (lm.num_blocks - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})
    print(f"{lm.model_id}, {len(of)} sequences of {SEQ_LEN}; relative error of J at rows {rows}")
    for probes in given.probes:
        for name, estimate in ESTIMATES.items():
            found = torch.stack([errors(of, estimate, probes, trial) for trial in range(given.trials)]).mean(0)
            print(f"{probes:4} backward passes  {name:15}" + " ".join(f"{found[row]:7.1%}" for row in rows))


def jacobians(lm: FrozenLM, model: str, dataset: str, num_seqs: int) -> Tensor:
    """Jacobians of the first sequences of a text, [seqs, rows, d_model, d_model]."""
    settings = TrainingTextSettings(
        dataset=dataset, seq_len=SEQ_LEN, num_workers=0, micro_batch_seqs=MICRO_BATCH, effective_batch_seqs=MICRO_BATCH,
        val_seqs=MICRO_BATCH, tokens=10**6,
    )  # fmt: skip
    data = TrainingText(resolve_text(settings, "full", lm.vocab_size), model)
    data.setup("fit")
    every = torch.arange(lm.d_model).expand(MICRO_BATCH, -1)
    found = []
    for batch, _ in islice(data.opening(num_seqs), num_seqs // MICRO_BATCH):
        found.append(torch.stack(list(mean_gradients(lm, batch.input_ids, every, SKIP_FIRST)), 2).transpose(0, 1))
    return torch.cat(found)


def dimensions(of: Tensor, probes: int, seed: int) -> Tensor:
    """Each row of the mean from the sequences it was dealt to."""
    seqs, rows, width, _ = of.shape
    dims = probed_dimensions(seed, 0, seqs, probes, width)
    total, counts = torch.zeros(rows, width, width), torch.zeros(width)
    for jacobian, wanted in zip(of, dims, strict=True):
        total[:, wanted] += jacobian[:, wanted]
        counts[wanted] += 1
    return total / counts[:, None]


def signs(of: Tensor, probes: int, seed: int) -> Tensor:
    """From random vectors of ±1."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randint(0, 2, (len(of), probes, of.shape[-1]), generator=generator) * 2.0 - 1
    return torch.stack([v.T @ v / probes @ j for v, j in zip(vectors, of, strict=True)]).mean(0)


def orthogonal(of: Tensor, probes: int, seed: int) -> Tensor:
    """From orthonormal vectors, others for each sequence."""
    generator, width = torch.Generator().manual_seed(seed), of.shape[-1]
    total = torch.zeros_like(of[0])
    for jacobian in of:
        q = torch.linalg.qr(torch.randn(width, probes, generator=generator)).Q
        total += width / probes * q @ q.T @ jacobian
    return total / len(of)


def signs_without_identity(of: Tensor, probes: int, seed: int) -> Tensor:
    """From random vectors of ±1 on what is beside the identity."""
    identity = torch.eye(of.shape[-1])
    return identity + signs(of - identity, probes, seed)


ESTIMATES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "dimensions": dimensions,
    "signs": signs,
    "orthogonal": orthogonal,
    "signs of J − 1": signs_without_identity,
}


def errors(of: Tensor, estimate: Callable[[Tensor, int, int], Tensor], probes: int, seed: int) -> Tensor:
    """Relative Frobenius error of an estimate by row."""
    exact = of.mean(0)
    return (estimate(of, probes, seed) - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jacobian_probes", description=__doc__)
    parser.add_argument("--model", default="demo", help="Hub id or folder")
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--seqs", type=int, default=32, help=f"sequences, a multiple of {MICRO_BATCH}")
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--trials", type=int, default=5)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
