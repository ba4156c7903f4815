"""Models, translators and provenances for the tests of artifacts."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from logos_pl.artifacts.fingerprint import fingerprint
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.provenance_schema import (
    BatchSizes,
    BiasOnly,
    Budget,
    Capacity,
    Dataset,
    Environment,
    Fingerprint,
    Init,
    MeanDivergence,
    Optim,
    PercentileKl,
    Precision,
    Regularizers,
    Temperature,
)
from logos_pl.artifacts.sealed import sealed
from logos_pl.artifacts.weights import capacity_of
from logos_pl.lenses.head import Head
from logos_pl.lenses.translator import Translators
from logos_pl.lm.frozen import FrozenLM


def make_lm(
    dtype: torch.dtype = torch.float32, commit: str = "c0ffee", model_id: str = "org/tiny", **overrides: Any
) -> FrozenLM:
    """A Llama of four blocks and width 16 with weights that bfloat16 holds exactly, always the same ones."""
    settings = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.4,
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**(settings | overrides)))
    for parameter in model.parameters():  # not the buffers: loading leaves RoPE's frequencies in fp32 too
        parameter.data = parameter.data.to(torch.bfloat16).to(dtype)
    return FrozenLM(model, None, model_id=model_id, model_commit=commit, tokenizer_commit=commit)


def make_translators(rows: int = 3, d_model: int = 16, rank: int = 4) -> Translators:
    """Translators with every number random."""
    translators = Translators(rows, d_model, rank)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in translators.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return translators


def make_provenance(lm: FrozenLM | None = None, translators: Translators | None = None) -> Provenance:
    """A complete provenance with a different value in every field."""
    if lm is None:
        mark = Fingerprint(
            "f" * 64, 128, "float32", "cpu", [[1.0, 2.0], [3.0, 4.5]] * 2, [3, 1], [0.5, 0.25], [1.0, 0.1, 1.0]
        )
    else:
        mark = fingerprint(lm, Head(lm.anatomy))
    norm, tuned = MeanDivergence(3.25, 2.5, 0.125), MeanDivergence(1.5, 0.75, 0.625)
    return Provenance(
        model_id="org/tiny" if lm is None else lm.model_id,
        clean_model_name="tiny" if lm is None else lm.clean_model_name,
        model_commit="c0ffee" if lm is None else lm.model_commit,
        tokenizer_commit="70ce",
        project_version="0.1.0",
        git_sha=None,
        seed=316,
        decoding_norm="final",
        dataset=Dataset(
            "org/text",
            "cut",
            "train",
            "v1",
            "the first shards, in order",
            "d" * 64,
            12_345,
            0.02,
            "text",
            "auto",
            ["<s>"],
        ),
        budget=Budget(245_760, 240_000, 245_760, 1, 512, 16, (0.6, 0.95)),
        batching=BatchSizes(8, 4, 32, 31, 1),
        capacity=Capacity(4, 3, 435) if translators is None else capacity_of(translators),
        optim=Optim(1e-3, (0.9, 0.999), 1e-4, "linear warm-up, cosine to 0", 15, 2, 14, 10, True),
        schedule="full",
        layers_per_step=2,
        temperature=Temperature(True, [1.0, 0.9, 0.8]),
        regularizers=Regularizers(1e-4, 2e-4),
        preconditioner=None,
        init=Init("closed_form", 32, 16_384, 14_112, [1e-3, 1e-2, 1e-1]),
        precision=Precision("float32", "float32", "float32"),
        environment=Environment("2.13.0", "5.23.0", "2.6.6", "cpu"),
        val_kl_bits={"25": PercentileKl(1, norm, tuned), "50": PercentileKl(2, tuned, norm)},
        fingerprint=mark,
        bias_only=None if lm is not None else BiasOnly("bias_only.pt", 51, [1.0, 1.1, 1.2]),
    )


def reseal(folder: Path, **changes: Any) -> None:
    """Change fields of a provenance, and write hashes that fit: of the files as they are now, and of itself."""
    plain = json.loads((folder / "provenance.json").read_text())
    here = [name for name in plain["sha256"] if (folder / name).is_file()]
    plain["sha256"] |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in here}
    write_sealed(folder, plain | changes)


def write_sealed(folder: Path, provenance: Any) -> None:
    """Write a provenance, whatever is in it, with the hash that fits."""
    text = provenance if isinstance(provenance, str) else json.dumps(provenance)
    for name, data in sealed(text).items():
        (folder / name).write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
