"""Jacobian maps and their provenances for the tests of artifacts."""

import torch
from torch import Tensor

from logos_pl.artifacts.fingerprint import fingerprint
from logos_pl.artifacts.jacobian_provenance import JacobianKl, JacobianProvenance
from logos_pl.artifacts.provenance_schema import Budget, MeanDivergence
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM
from tests.artifacts.lenses import make_provenance

WIDTH, BLOCKS = 16, 4


def make_jacobians(blocks: int = BLOCKS, seed: int = 2) -> Tensor:
    """Maps of rows 0 … n − 1 of `make_lm`'s models."""
    noise = torch.randn(blocks, WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.eye(WIDTH) + 0.3 * noise


def jacobian_provenance(lm: FrozenLM | None = None) -> JacobianProvenance:
    tuned = make_provenance(lm)
    of_norm, of_jacobian = MeanDivergence(3.25, 2.5, 0.125), MeanDivergence(1.5, 0.75, 0.625)
    shared = ("model_id", "clean_model_name", "model_commit", "tokenizer_commit", "project_version", "git_sha", "seed")
    groups = ("dataset", "precision", "environment")
    mark = tuned.fingerprint if lm is None else fingerprint(lm, Head(lm.anatomy))
    blocks = len(mark.residual_norms) - 1
    return JacobianProvenance(
        **{name: getattr(tuned, name) for name in (*shared, *groups)},
        budget=Budget(131_072, 128_000, 131_072, 1, 128, 111, (0.125, 127 / 128)),
        sequences=1_024,
        sequences_asked=1_000,
        probes=8,
        skip_first=16,
        fewest_sequences=512,
        relative_errors=[0.05 + 0.01 * row for row in range(blocks)],
        val_kl_bits={"25": JacobianKl(1, of_norm, of_jacobian)},
        fingerprint=mark,
    )
