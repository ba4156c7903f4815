"""The proof of an anatomy fails when any part of it is wrong."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from logos_pl.errors import InputError
from logos_pl.lm import verify as verify_module
from logos_pl.lm.anatomy import Anatomy, find_parts
from logos_pl.lm.norms import norm_weights
from logos_pl.lm.verify import verify
from tests.lm.families import FAMILIES, LLAMA_LIKE, NAMES, build, every, tiny_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", every(NAMES))
def test_every_family_is_proved(name: str, dtype: torch.dtype) -> None:
    model = tiny_model(name, dtype, seed=2)
    verify(model, find_parts(model))


def without_bias(layer: nn.Linear) -> nn.Linear:
    bare = nn.Linear(layer.in_features, layer.out_features, bias=False)
    bare.weight = layer.weight
    return bare


def with_eps(norm: nn.Module, eps: float) -> nn.Module:
    changed = copy.deepcopy(norm)
    for name in ("eps", "variance_epsilon"):
        if hasattr(changed, name):
            setattr(changed, name, eps)
    return changed


MUTATIONS = {
    "the soft-cap": ("gemma2", lambda a: {"softcap": None}),
    "the soft-cap's size": ("gemma3_text_capped", lambda a: {"softcap": a.softcap * 1.01}),
    "the multiplier": ("cohere", lambda a: {"logit_multiplier": 1.0}),
    "the divisor in front of the output layer": ("minicpm3", lambda a: {"head_divisor": 1.0}),
    "the divisor": ("granite", lambda a: {"logit_divisor": 1.0}),
    "the bias": ("phi", lambda a: {"lm_head": without_bias(a.lm_head)}),
    "the final norm": ("llama", lambda a: {"final_norm": None}),
    "ε of an RMS norm": ("qwen2", lambda a: {"final_norm": with_eps(a.final_norm, 0.0)}),
    "ε of a layer norm": ("gpt2", lambda a: {"final_norm": with_eps(a.final_norm, 1e-6)}),
    "the order of the blocks": ("llama", lambda a: {"blocks": a.blocks[::-1]}),
    "a block": ("llama", lambda a: {"blocks": a.blocks[:-1]}),
}


@pytest.mark.parametrize("part", MUTATIONS)
def test_an_anatomy_without_a_part_is_refused(part: str) -> None:
    name, change = MUTATIONS[part]
    model = tiny_model(name)
    anatomy = find_parts(model)
    with pytest.raises(InputError, match=f"^{type(model).__name__} is not supported: "):
        verify(model, dataclasses.replace(anatomy, **change(anatomy)))


def test_an_anatomy_without_the_projection_is_refused() -> None:
    model = tiny_model("opt_project")
    anatomy = find_parts(model)
    other = nn.Linear(32, 24, bias=False, dtype=torch.float32)
    with pytest.raises(InputError, match="OPTForCausalLM is not supported"):
        verify(model, dataclasses.replace(anatomy, project=other))
    with pytest.raises(InputError, match=r"block 1 reads \[2, 8, 32\] and writes \[2, 8, 32\], not \[2, 8, 24\]"):
        verify(model, dataclasses.replace(anatomy, project=None))


def test_a_model_that_changes_the_stream_between_blocks_is_refused() -> None:
    model = tiny_model("llama")

    def nudge(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return (args[0] * 1.5, *args[1:])

    model.model.layers[1].register_forward_pre_hook(nudge)
    with pytest.raises(InputError) as caught:
        verify(model, find_parts(model))
    assert str(caught.value) == (
        "LlamaForCausalLM is not supported: the output of block 1 is not the input of block 2."
    )


NOT_CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "Gemma3ForCausalLM": ("gemma3_text", {"use_bidirectional_attention": True, "sliding_window": 16}),
    "LlamaForCausalLM": ("llama", {"is_causal": False}),
    "Qwen3MoeForCausalLM": ("qwen3_moe", {"is_causal": False, **FAMILIES["qwen3_moe"].settings}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_a_model_that_reads_later_tokens_is_refused(name: str, dtype: torch.dtype) -> None:
    model_type, settings = NOT_CAUSAL[name]
    config = AutoConfig.for_model(model_type, **{**LLAMA_LIKE, **settings})
    model = build(lambda: AutoModelForCausalLM.from_config(config), dtype)
    with pytest.raises(InputError) as caught:
        verify(model, find_parts(model))
    assert str(caught.value) == (
        f"{name} is not supported: row 1 depends on later tokens (bidirectional attention); use a causal "
        "language model."
    )


def with_output(block: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Lets a block give something else than it does."""

    def replace(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])

    block.register_forward_hook(replace)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_large_embeddings_do_not_hide_what_the_blocks_read(dtype: torch.dtype) -> None:
    """The first blocks add a hundredth of what they read, so that half precision nearly rounds it away."""
    config = AutoConfig.for_model("llama", **{**LLAMA_LIKE, "is_causal": False})
    model = build(lambda: AutoModelForCausalLM.from_config(config), dtype)
    model.model.embed_tokens.weight *= 40
    with pytest.raises(InputError, match="depends on later tokens"):
        verify(model, find_parts(model))


def test_one_block_that_looks_a_single_token_ahead_is_found_wherever_it_stands() -> None:
    for place in range(3):
        model = tiny_model("llama")
        with_output(model.model.layers[place], lambda h: h + 0.05 * h.roll(-1, dims=1))
        with pytest.raises(InputError, match=f"row {place + 1} depends on later tokens"):
            verify(model, find_parts(model))


@pytest.mark.parametrize(("dtype", "noise"), [(torch.float32, 1e-7), (torch.bfloat16, 4e-3)], ids=str)
def test_a_kernel_that_rounds_otherwise_each_time_is_no_reading_of_later_tokens(
    dtype: torch.dtype, noise: float
) -> None:
    """As a mixture of experts on CUDA adds in no fixed order; only the body's own run is disturbed here."""
    model = tiny_model("mixtral", dtype)
    anatomy = find_parts(model)
    generator = torch.Generator().manual_seed(0)
    real = model.model.forward
    runs: list[int] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        runs.append(1)
        return real(*args, **kwargs)

    def disturb(h: Tensor) -> Tensor:
        # The second run is the one with the batch turned round.
        return h + noise * h * torch.randn(h.shape, generator=generator) if len(runs) == 2 else h

    model.model.forward = forward
    with_output(model.model.layers[0], lambda h: disturb(h).to(h.dtype))
    verify(model, anatomy)


def test_a_stream_of_a_wider_type_than_the_anatomy_says_is_refused() -> None:
    model = tiny_model("mamba", torch.bfloat16)
    anatomy = find_parts(model)
    assert anatomy.stream_dtype == torch.float32
    with pytest.raises(InputError, match=r"block 1 has numbers in torch.float32, which torch.bfloat16 does not hold"):
        verify(model, dataclasses.replace(anatomy, stream_dtype=torch.bfloat16))


def test_a_refusal_in_half_precision_says_that_float32_may_do() -> None:
    model = tiny_model("gemma2", torch.bfloat16)
    anatomy = dataclasses.replace(find_parts(model), softcap=None)
    with pytest.raises(InputError) as caught:
        verify(model, anatomy)
    assert str(caught.value).startswith("Gemma2ForCausalLM is not supported in bfloat16: final norm, projection")
    assert str(caught.value).endswith("; it may be in float32: give --model.dtype float32.")


def test_gemma_3n_with_its_four_streams_is_refused() -> None:
    config = AutoConfig.for_model(
        "gemma3n_text",
        **{
            **LLAMA_LIKE,
            "num_hidden_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 97,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.0, 0.0],
        },
    )
    model = build(lambda: AutoModelForCausalLM.from_config(config))
    with pytest.raises(InputError, match=r"^Gemma3nForCausalLM is not supported: "):
        verify(model, find_parts(model))


def test_a_soft_cap_that_ordinary_logits_do_not_show_is_missed_by_no_one() -> None:
    """Logits of the model's own rows far below the cap: dropping it must still be seen, on the large probe rows."""
    model = tiny_model("gemma2")
    model.config.final_logit_softcapping = 1e3
    anatomy = find_parts(model)
    assert anatomy.softcap == 1e3
    with pytest.raises(InputError, match="Gemma2ForCausalLM is not supported"):
        verify(model, dataclasses.replace(anatomy, softcap=None))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_the_fp32_path_with_a_wrong_epsilon_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(name, torch.bfloat16)
    anatomy = find_parts(model)

    def forgetful(module: nn.Module, d_model: int | None = None) -> Any:
        return dataclasses.replace(norm_weights(module, d_model), eps=0.0)

    monkeypatch.setattr(verify_module, "norm_weights", forgetful)
    with pytest.raises(InputError, match=r"its head decoded in fp32 is .* bits from the head in fp64"):
        verify(model, anatomy)


def test_the_fp32_path_without_its_beta_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("opt")
    anatomy = find_parts(model)
    monkeypatch.setattr(verify_module, "norm_weights", lambda m, d: dataclasses.replace(norm_weights(m, d), beta=None))
    with pytest.raises(InputError, match="bits from the head in fp64"):
        verify(model, anatomy)


def test_a_norm_whose_epsilon_is_neither_stated_nor_measured_is_refused_by_the_models_name() -> None:
    model = tiny_model("llama")
    model.model.norm = nn.RMSNorm(32, eps=None)
    with pytest.raises(InputError, match=r"^LlamaForCausalLM is not supported: the norm RMSNorm .* has no ε"):
        verify(model, find_parts(model))


def test_families_cover_every_kind_of_head() -> None:
    found: list[Anatomy] = [find_parts(tiny_model(name)) for name in NAMES]
    assert any(a.softcap is not None for a in found)
    assert any(a.logit_multiplier != 1 for a in found)
    assert any(a.logit_divisor != 1 for a in found)
    assert any(a.head_divisor != 1 for a in found)
    assert any(a.lm_head.bias is not None for a in found)
    assert any(a.project is not None for a in found)
    assert any(a.final_norm is None for a in found)
    assert {f.norm for f in FAMILIES.values()} == {"rms", "layer", "identity"}
