"""The groups of a provenance against their specification, which is written out here and not taken from the code."""

import dataclasses
import json
from typing import Any

import pytest

from logos_pl.artifacts import provenance_schema
from tests.artifacts.lenses import make_provenance
from tests.artifacts.prisms import prism_provenance

KL = ["kl_to_final_bits", "kl_from_final_bits", "top1_agree_frac"]
GROUPS = {
    "dataset": [
        "repo_id", "name", "split", "revision", "sample_description", "content_hash", "documents", "held_out_frac",
        "format", "special_tokens", "added_tokens",
    ],
    "budget": ["tokens", "tokens_asked", "tokens_trained", "passes", "seq_len", "positions_per_seq", "position_range"],
    "batching": ["micro_batch_seqs", "grad_accum", "effective_batch_seqs", "fewest_batch_seqs", "world_size"],
    "capacity": ["rank_k", "rows", "parameters"],
    "optim": [
        "lr", "betas", "weight_decay", "schedule", "total_steps", "warmup_steps", "steps_done", "exported_step",
        "stopped_early",
    ],
    "temperature": ["enabled", "tau"],
    "regularizers": ["l2", "smoothness"],
    "init": ["kind", "sequences", "tokens", "positions", "shrinkage"],
    "precision": ["model", "unembed", "loss"],
    "environment": ["torch", "transformers", "lightning", "device"],
    "bias_only": ["file", "parameters", "tau"],
    "fingerprint": [
        "head_sha256", "num_tokens", "dtype", "device", "residual_norms", "top_ids", "top_logits", "rotary",
    ],
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_the_fields_of_the_specification_and_no_others(group: str) -> None:
    assert list(json.loads(make_provenance().to_json())[group]) == GROUPS[group]


def test_a_basis_is_recorded_by_type_file_and_damping() -> None:
    basis = provenance_schema.Preconditioner("whitened", None, 1e-3)
    plain = json.loads(dataclasses.replace(make_provenance(), preconditioner=basis).to_json())
    assert plain["preconditioner"] == {"type": "whitened", "path": None, "damping": 1e-3}


def test_figures_at_a_depth_are_of_the_norm_lens_and_the_lens_itself() -> None:
    for provenance, lens in ((make_provenance(), "tuned"), (prism_provenance(), "prism")):
        at = json.loads(provenance.to_json())["val_kl_bits"]["25"]
        assert list(at) == ["row", "norm", lens]
        assert list(at["norm"]) == list(at[lens]) == KL


def test_a_candidate_of_a_prism_is_recorded_with_its_divergence_at_each_depth() -> None:
    (candidate,) = json.loads(prism_provenance().to_json())["candidates"]
    assert list(candidate) == ["whiten", "depths", "rows", "kl_from_final_bits", "mean_kl_from_final_bits"]


def test_no_group_can_be_changed_once_it_is_made() -> None:
    groups: list[Any] = [kind for kind in vars(provenance_schema).values() if dataclasses.is_dataclass(kind)]
    assert len(groups) >= len(GROUPS)
    assert all(kind.__dataclass_params__.frozen for kind in groups)


def test_fingerprints_are_of_128_tokens() -> None:
    assert provenance_schema.FINGERPRINT_TOKENS == 128
