"""Prism maps and their provenances for the tests of artifacts."""

import torch

from logos_pl.artifacts.fingerprint import fingerprint
from logos_pl.artifacts.prism_provenance import PrismCandidate, PrismKl, PrismProvenance
from logos_pl.artifacts.provenance_schema import MeanDivergence
from logos_pl.lenses.head import Head
from logos_pl.lenses.prism import PrismMap
from logos_pl.lm.frozen import FrozenLM
from tests.artifacts.lenses import make_provenance

WIDTH = 16


def make_map(kind: str = "full") -> PrismMap:
    generator = torch.Generator().manual_seed(2)
    shape = (WIDTH, WIDTH) if kind == "full" else (WIDTH,)
    parts = [torch.randn(size, generator=generator) for size in ((WIDTH,), shape, (WIDTH, WIDTH), shape, (WIDTH,))]
    return PrismMap(*parts)


def prism_provenance(lm: FrozenLM | None = None, kind: str = "full", norm: str = "final") -> PrismProvenance:
    tuned = make_provenance(lm)
    of_norm, of_prism = MeanDivergence(3.25, 2.5, 0.125), MeanDivergence(1.5, 0.75, 0.625)
    shared = ("model_id", "clean_model_name", "model_commit", "tokenizer_commit", "project_version", "git_sha")
    groups = ("dataset", "budget", "precision", "environment")
    return PrismProvenance(
        **{name: getattr(tuned, name) for name in (*shared, *groups)},
        decoding_norm=norm,
        positions=131_500,
        positions_asked=131_072,
        world_size=2,
        whiten=kind,
        depths=[25, 50],
        rows=[1, 2],
        shrinkage=1e-3,
        rank=WIDTH,
        candidates=[PrismCandidate(kind, [25, 50], [1, 2], {"25": 0.5, "50": 0.25}, 0.375)],
        val_kl_bits={"25": PrismKl(1, of_norm, of_prism)},
        fingerprint=tuned.fingerprint if lm is None else fingerprint(lm, Head(lm.anatomy, decoding_norm=norm)),
    )
