"""Exports our Jacobian lenses to the formats of other packages that can hold them exactly.

``transformer_lens``: one file of ``torch.save``, as written by TransformerLens and the reference implementation. Map ℓ
of that file reads the output of 0-based block ℓ, row ℓ + 1 here, so it has no place for row 0.

``tuned_lens``: ``config.json`` and ``params.pt`` of the tuned-lens package, whose translators are added to the residual
in front of the norm: W = J − 1 and no bias, for rows 0 … n − 1.

Our other lenses are affine maps after the norm. Neither format can hold them, as a norm is not linear.
"""

import json
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.artifacts.jacobian_provenance import JacobianProvenance
from logos_pl.artifacts.tuned_lens_format import CONFIG_FILE, LENS_TYPE, PARAMS_FILE
from logos_pl.artifacts.unembed_hash import unembed_hash
from logos_pl.artifacts.weights import encode
from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.model_names import HUB_COMMIT

Format = Literal["transformer_lens", "tuned_lens"]

Jacobians = Float[Tensor, "rows d_model d_model"]


def transformer_lens_file(jacobians: Jacobians, p: JacobianProvenance) -> memoryview:
    """Bytes of the file; the maps stay in float32.

    The model's name and commit are recorded only for a model on the Hub: TransformerLens compares them with those of
    the model that it has loaded, and those of a local folder would differ.
    """
    blocks = range(len(jacobians) - 1)
    of_hub = HUB_COMMIT.fullmatch(p.model_commit) is not None and p.fingerprint.loaded_as is None
    of_model = {"model_name": p.model_id, "model_revision": p.model_commit} if of_hub else {}
    content: dict[str, Any] = {
        "J": {block: jacobians[block + 1].clone() for block in blocks},
        "source_layers": list(blocks),
        "d_model": jacobians.shape[-1],
        "n_prompts": p.sequences,
        "metadata": of_model
        | {
            "estimator": "jacobian_lens",
            "target_layer": len(jacobians) - 1,
            "corpus": p.dataset.repo_id,
            "seq_len": p.budget.seq_len,
            "skip_first": p.skip_first,
            "dimensions_per_prompt": p.probes,
            "written_by": f"logos-pl {p.project_version}",
        },
    }
    return encode(content)


def tuned_lens_files(jacobians: Jacobians, p: JacobianProvenance, lm: FrozenLM) -> dict[str, bytes | memoryview]:
    """Contents of the two files by name, in float32.

    Raises:
        InputError: The model's head has more than norm and unembedding, which the package ignores, so the lens would
            be read with other logits than the model's.
    """
    if beyond := _beyond_the_packages_head(lm):
        raise InputError(
            f"The tuned-lens package reads a lens through norm and unembedding only, but the head of {lm.model_id} "
            f"has {beyond}: give --to transformer_lens."
        )
    identity = torch.eye(jacobians.shape[-1])
    params = {}
    for row, matrix in enumerate(jacobians):
        params[f"{row}.weight"] = matrix - identity
        params[f"{row}.bias"] = torch.zeros(len(identity))
    config = {
        "base_model_name_or_path": p.model_id,
        "d_model": jacobians.shape[-1],
        "num_hidden_layers": len(jacobians),
        "bias": True,
        "base_model_revision": p.model_commit if HUB_COMMIT.fullmatch(p.model_commit) else None,
        "unembed_hash": unembed_hash(lm.anatomy.lm_head.weight.detach()),
        "lens_type": LENS_TYPE,
    }
    return {CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(), PARAMS_FILE: encode(params)}


def _beyond_the_packages_head(lm: FrozenLM) -> str | None:
    """What the head of a model has in addition to norm and unembedding; None if nothing."""
    anatomy = lm.anatomy
    if anatomy.softcap is not None:
        return "a soft-cap"
    if (anatomy.logit_multiplier, anatomy.logit_divisor, anatomy.head_divisor) != (1, 1, 1):
        return "a scale of the logits"
    if anatomy.project is not None:
        return "a projection"
    return "no norm" if anatomy.final_norm is None else None
