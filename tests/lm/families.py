"""A tiny random model of every family: nothing in it is trivially one, zero or without effect on the logits."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from logos_pl.lm.config import auto_class

VOCAB = 97
D_MODEL = 32
BLOCKS = 3

LLAMA_LIKE = {
    "vocab_size": VOCAB,
    "hidden_size": D_MODEL,
    "intermediate_size": 48,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


class Family(NamedTuple):
    """How to build a tiny model of a family, and what the anatomy must find in it."""

    model_type: str
    settings: dict[str, Any]
    norm: str = "rms"
    multiplier: float = 1.0
    divisor: float = 1.0
    head_divisor: float = 1.0
    softcap: float | None = None
    head_bias: bool = False
    project: bool = False
    one_plus_w: bool = False
    final_norm: str | None = "model.norm"
    # Path of the norm that reads row L = 1 next, from the model; None where the family has none.
    next_norm: str | None = "model.layers.1.input_layernorm"
    stream_in_fp32: bool = False
    kind: str = "attention"


def _llama_like(**changes: Any) -> dict[str, Any]:
    return {**LLAMA_LIKE, **changes}


GPT2 = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "vocab_size": VOCAB,
    "n_embd": D_MODEL,
    "n_layer": BLOCKS,
    "n_head": 4,
    "n_positions": 64,
}
OPT = {
    "vocab_size": VOCAB,
    "hidden_size": D_MODEL,
    "word_embed_proj_dim": D_MODEL,
    "ffn_dim": 48,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
FALCON = {
    "vocab_size": VOCAB,
    "hidden_size": D_MODEL,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "alibi": False,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# State-space models keep the residual stream in fp32, whatever format the weights have.
MAMBA = {"vocab_size": VOCAB, "hidden_size": D_MODEL, "num_hidden_layers": BLOCKS, "state_size": 8}
MAMBA_NORMS = {"final_norm": "backbone.norm_f", "next_norm": "backbone.layers.1.norm", "kind": "Mamba"}

# The encoder of images has as many blocks as the language model, and is not mistaken for it.
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
QWEN_VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "out_hidden_size": D_MODEL,
    "depth": BLOCKS,
    "num_heads": 2,
    "patch_size": 4,
}
SECTIONS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
WITH_IMAGES = {
    "final_norm": "model.language_model.norm",
    "next_norm": "model.language_model.layers.1.input_layernorm",
    "kind": "text of a vision-language model",
}
IMAGE_TOKENS = {"image_token_id": 3, "video_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6}


def _with_images(text_type: str, vision_type: str, **settings: Any) -> dict[str, Any]:
    text = {**LLAMA_LIKE, **settings, "model_type": text_type}
    vision = {"model_type": vision_type, **(VISION if "qwen" not in vision_type else QWEN_VISION)}
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": False}


FAMILIES: dict[str, Family] = {
    "llama": Family("llama", _llama_like()),
    "llama3": Family("llama", _llama_like(rope_parameters=LLAMA3_ROPE)),
    "llama_tied": Family("llama", _llama_like(tie_word_embeddings=True)),
    "yi": Family("llama", _llama_like(rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 5e6})),
    "mistral": Family("mistral", _llama_like(sliding_window=None)),
    "gemma2": Family(
        "gemma2",
        _llama_like(
            final_logit_softcapping=3.0,
            attn_logit_softcapping=2.0,
            sliding_window=16,
            query_pre_attn_scalar=8,
            tie_word_embeddings=True,
        ),
        softcap=3.0,
        one_plus_w=True,
    ),
    "gemma3_text": Family(
        "gemma3_text",
        _llama_like(sliding_window=16, query_pre_attn_scalar=8, tie_word_embeddings=True),
        one_plus_w=True,
    ),
    "gemma3_text_capped": Family(
        "gemma3_text", _llama_like(final_logit_softcapping=4.0, sliding_window=16), softcap=4.0, one_plus_w=True
    ),
    "qwen2": Family("qwen2", _llama_like()),
    "qwen3": Family("qwen3", _llama_like()),
    "olmo2": Family("olmo2", _llama_like(), next_norm=None),
    "phi3": Family("phi3", _llama_like()),
    "gpt2": Family("gpt2", GPT2, norm="layer", next_norm="transformer.h.1.ln_1", final_norm="transformer.ln_f"),
    "gpt_neox": Family(
        "gpt_neox",
        _llama_like(rotary_pct=0.25),
        norm="layer",
        next_norm="gpt_neox.layers.1.input_layernorm",
        final_norm="gpt_neox.final_layer_norm",
    ),
    "gpt_neox_sequential": Family(
        "gpt_neox",
        _llama_like(use_parallel_residual=False),
        norm="layer",
        next_norm="gpt_neox.layers.1.input_layernorm",
        final_norm="gpt_neox.final_layer_norm",
    ),
    "opt": Family(
        "opt",
        OPT,
        norm="layer",
        next_norm="model.decoder.layers.1.self_attn_layer_norm",
        final_norm="model.decoder.final_layer_norm",
    ),
    "opt_project": Family(
        "opt",
        {**OPT, "word_embed_proj_dim": 24},
        norm="layer",
        project=True,
        next_norm="model.decoder.layers.1.self_attn_layer_norm",
        final_norm="model.decoder.final_layer_norm",
    ),
    "opt_post_norm": Family(
        "opt",
        {**OPT, "word_embed_proj_dim": 24, "do_layer_norm_before": False},
        norm="identity",
        project=True,
        next_norm="model.decoder.layers.0.final_layer_norm",
        final_norm=None,
    ),
    "falcon_old": Family(
        "falcon",
        {**FALCON, "multi_query": True},
        norm="layer",
        next_norm="transformer.h.1.input_layernorm",
        final_norm="transformer.ln_f",
    ),
    "falcon_sequential": Family(
        "falcon",
        {**FALCON, "parallel_attn": False, "bias": True, "alibi": True, "multi_query": False},
        norm="layer",
        next_norm="transformer.h.1.input_layernorm",
        final_norm="transformer.ln_f",
    ),
    "falcon_new": Family(
        "falcon",
        {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
        norm="layer",
        next_norm="transformer.h.1.ln_attn",
        final_norm="transformer.ln_f",
    ),
    "stablelm": Family("stablelm", _llama_like(use_qkv_bias=True), norm="layer"),
    "cohere": Family("cohere", _llama_like(logit_scale=0.25), norm="layer", multiplier=0.25),
    "cohere2": Family("cohere2", _llama_like(logit_scale=0.3, sliding_window=16), norm="layer", multiplier=0.3),
    "granite": Family(
        "granite",
        _llama_like(logits_scaling=3.0, embedding_multiplier=6.0, residual_multiplier=0.5, attention_multiplier=0.2),
        divisor=3.0,
    ),
    "smollm3": Family("smollm3", _llama_like()),
    "mixtral": Family("mixtral", _llama_like(num_local_experts=4, num_experts_per_tok=2), kind="experts"),
    "qwen3_moe": Family("qwen3_moe", _llama_like(num_experts=4, **MOE), kind="experts"),
    # GPT-J and Phi-1.5 are the ones with a bias in the head.
    "gptj": Family(
        "gptj",
        {**GPT2, "rotary_dim": 4, "tie_word_embeddings": False},
        norm="layer",
        head_bias=True,
        next_norm="transformer.h.1.ln_1",
        final_norm="transformer.ln_f",
    ),
    "mamba": Family("mamba", MAMBA, **MAMBA_NORMS, stream_in_fp32=True),
    "mamba2": Family(
        "mamba2",
        {**MAMBA, "num_heads": 4, "head_dim": 16, "expand": 2, "n_groups": 1},
        **MAMBA_NORMS,
        stream_in_fp32=True,
    ),
    # The one whose class names a body that it does not have.
    "llama4": Family(
        "llama4_text", _llama_like(intermediate_size_mlp=48, num_local_experts=2, num_experts_per_tok=1), kind="experts"
    ),
    # The one whose norm has its ε as a constant, and no weight.
    "olmo": Family("olmo", _llama_like(), norm="layer"),
    # The one that divides what its output layer reads, by hidden_size / dim_model_base.
    "minicpm3": Family(
        "minicpm3",
        _llama_like(
            num_key_value_heads=4,
            q_lora_rank=8,
            kv_lora_rank=8,
            qk_nope_head_dim=8,
            qk_rope_head_dim=4,
            v_head_dim=8,
            head_dim=4,
            dim_model_base=10,
        ),
        head_divisor=3.2,
    ),
    "jamba": Family(
        "jamba",
        _llama_like(
            num_experts=4,
            num_experts_per_tok=2,
            attn_layer_period=3,
            attn_layer_offset=1,
            mamba_d_state=8,
            mamba_dt_rank=4,
            use_mamba_kernels=False,
        ),
        final_norm="model.final_layernorm",
        kind="Mamba, attention and experts",
    ),
    "falcon_h1": Family(
        "falcon_h1",
        _llama_like(mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, lm_head_multiplier=0.4),
        multiplier=0.4,
        final_norm="model.final_layernorm",
        kind="Mamba beside attention",
    ),
    "qwen3_next": Family(
        "qwen3_next",
        _llama_like(
            num_experts=4,
            **MOE,
            shared_expert_intermediate_size=24,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            layer_types=["linear_attention", "full_attention", "linear_attention"],
        ),
        one_plus_w=True,
        kind="linear attention, attention and experts",
    ),
    "qwen2_5_vl": Family(
        "qwen2_5_vl",
        {**_with_images("qwen2_5_vl_text", "qwen2_5_vl_vision", rope_parameters=SECTIONS), **IMAGE_TOKENS},
        **WITH_IMAGES,
    ),
    "qwen3_vl": Family(
        "qwen3_vl",
        {**_with_images("qwen3_vl_text", "qwen3_vl_vision", rope_parameters=SECTIONS), **IMAGE_TOKENS},
        **WITH_IMAGES,
    ),
    "mistral3": Family("mistral3", {**_with_images("mistral", "pixtral"), "image_token_index": 3}, **WITH_IMAGES),
    "llava": Family("llava", {**_with_images("llama", "clip_vision_model"), "image_token_index": 3}, **WITH_IMAGES),
    "gemma3": Family(
        "gemma3",
        {
            **_with_images("gemma3_text", "siglip_vision_model", sliding_window=16, query_pre_attn_scalar=8),
            "mm_tokens_per_image": 4,
        },
        one_plus_w=True,
        **WITH_IMAGES,
    ),
    "phi": Family("phi", _llama_like(), norm="layer", head_bias=True, final_norm="model.final_layernorm"),
}

NAMES = sorted(FAMILIES)

REPRESENTATIVES = {
    "cohere",  # a LayerNorm, blocks in parallel, a multiplier
    "falcon_old",
    "falcon_sequential",  # ALiBi
    "gemma2",  # two norms a branch, soft-capped logits
    "gpt2",
    "gpt_neox",
    "gptj",  # a bias in the head
    "granite",  # a divisor
    "jamba",  # blocks of several kinds
    "llama",
    "mamba",  # a stream in fp32
    "minicpm3",  # a division before the head
    "olmo2",  # norms after the branches
    "opt_post_norm",  # no final norm
    "opt_project",
    "qwen2_5_vl",  # the text side of a model of images
    "qwen3_moe",
}
"""At least one of every kind of norm, head, block and stream."""


def every(names: Iterable[str]) -> list[Any]:
    """Parameters for a test of every family: all but the representatives are left to `dev.py test --all`."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=() if name in REPRESENTATIVES else slow) for name in names]


def tiny_model(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> PreTrainedModel:
    """A random model of a family of ``FAMILIES``, frozen in evaluation mode."""
    config = AutoConfig.for_model(FAMILIES[name].model_type, **FAMILIES[name].settings)
    return build(
        lambda: auto_class(config).from_config(config),
        dtype,
        seed,
    )


def build(make: Callable[[], PreTrainedModel], dtype: torch.dtype = torch.float32, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = make()
    randomise(model)
    # A cast even to the same format would drop the imaginary part of a table of angles (Llama-4's images).
    model = model if dtype == torch.float32 else model.to(dtype)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Weights large enough that logits spread over several units, norms and biases away from one and zero."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=1.5 / parameter.shape[-1] ** 0.5)
        elif name.endswith("bias"):
            parameter.normal_(std=0.3)
        else:
            parameter.add_(torch.randn_like(parameter) * 0.3)
