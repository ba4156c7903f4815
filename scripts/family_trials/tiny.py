"""A tiny configuration of any architecture of transformers: its default one with small sizes, found by their names."""

import re
from typing import Any

from transformers import PreTrainedConfig

VOCAB = 97
BLOCKS = 4

# The first pattern that a key matches as a whole gives its size; other numbers stay as they are by default.
SIZES: tuple[tuple[str, int], ...] = (
    (r".*vocab_size(_per_layer_input)?|encoder_hash_byte_group_vocab", VOCAB),
    (
        r"(num_|n_|decoder_|encoder_|num_encoder_|num_decoder_)?(hidden_)?(layers?|blocks)|num_layers_per_stack|depth",
        BLOCKS,
    ),
    (r"(.*_)?(num_|n_)?(key_value|kv)_heads|linear_num_key_heads|num_query_groups", 2),
    (r"(.*_)?(attention_heads|n_heads?|num_heads|num_value_heads|mamba_heads|linear_num_heads)", 4),
    (r"rotary_dim", 4),
    (r"qk_head_dim", 16),
    (r"(.*_)?(head_dim|d_head|dim_head|attention_head_size|kv_channels|headdim)", 8),
    (r"hidden_size_per_layer_input|(.*_)?rank|state_size|ssm_state_size|mamba_d_state|d_rel|rel_extent", 8),
    (
        r"(.*_)?(intermediate_size|intermediate_size_mlp|ffn_dim|ffn_hidden_size|dim_ff|dff|d_inner|feed_forward_size)",
        48,
    ),
    (
        r"(.*_)?(hidden_size|d_model|n_embd|dim|emb_dim|embedding_dim|embedding_size|embed_dim|lru_width|dim_model_base)"
        r"|word_embed_proj_dim|cross_attention_dim",
        32,
    ),
    (r"(num_|n_|moe_)?(num_)?(local_|routed_)?experts|zero_expert_num", 4),
    (r"(num_)?experts_per_tok(en)?|moe_topk|moe_k|topk", 2),
    (r"n_group|topk_group|num_expert_group|o_groups|mamba_n_groups|n_groups|mamba_ngroups", 1),
    (r"(num_|n_)?shared_experts|moe_num_shared_experts", 1),
    (
        r"(max_position_embeddings|n_positions|n_ctx|max_seq_len|model_max_length|context_length|max_target_positions)",
        64,
    ),
    (r"(original_max_position_embeddings)", 32),
    (r"(sliding_window|sliding_window_size|.*window_size|attention_chunk_size|mamba_chunk_size|chunk_size)", 16),
)
KINDS = re.compile(r".*layer_types|.*layers_block_type|indexer_types|block_types")
_TOKEN = re.compile(r".*(token_id|token_index|_index)|boi_token_index")

ROPE = {"rope_type": "default", "rope_theta": 1e4}
MROPE = {"rope_parameters": {**ROPE, "mrope_section": [2, 1, 1]}}
MAMBA_HEADS = {"mamba_d_head": 16}
FURTHER: dict[str, dict[str, Any]] = {
    "bamba": MAMBA_HEADS,
    "falcon_h1": {"mamba_d_ssm": 32},
    "granitemoehybrid": MAMBA_HEADS,
    "mamba2": {"head_dim": 16},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {"sliding_attention": ROPE, "full_attention": ROPE},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48},
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 16,
        "indexer_compress_ratio": 2,
    },
    "gemma4_text": {"global_head_dim": 8},
    "gemma3n_text": {"num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0] * BLOCKS},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "blenderbot": {"encoder_layers": BLOCKS},
    **dict.fromkeys(("qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text", "glm4v_text"), MROPE),
    "glm4v_moe_text": {"rope_parameters": {**ROPE, "mrope_section": [1, 1, 0]}},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "zamba2": {"num_key_value_heads": 4, "attention_hidden_size": 64, "attention_head_dim": 16, "mamba_headdim": 16},
    "minicpm3": {"dim_model_base": 10},
    "inkling_text": {"unpadded_vocab_size": VOCAB - 7},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
}
"""What single families need on top."""


def tiny_settings(config: PreTrainedConfig) -> dict[str, Any]:
    """What to change in a configuration so that its model is tiny."""
    settings: dict[str, Any] = {}
    parts = getattr(config, "sub_configs", {})
    written = config.to_dict()
    for key, value in written.items():
        if key == "is_decoder":
            settings[key] = True
        if isinstance(value, bool) or key in parts:
            continue
        if isinstance(value, int) and _size(key, value) != value:
            settings[key] = _size(key, value)
        elif isinstance(value, list) and value and KINDS.fullmatch(key) and isinstance(value[0], str):
            kinds = list(dict.fromkeys(value))
            settings[key] = [kinds[block % len(kinds)] for block in range(BLOCKS)]
    if "kv_lora_rank" in written:  # keys are made for every head
        settings["num_key_value_heads"] = 4
    for key in parts:
        part = getattr(config, key, None)
        if isinstance(part, PreTrainedConfig):
            settings[key] = {"model_type": part.model_type, **tiny_settings(part)}
    return settings | FURTHER.get(config.model_type, {})


def tiny_config(kind: type[PreTrainedConfig]) -> PreTrainedConfig:
    """A tiny configuration of a class."""
    return kind(**tiny_settings(kind()))


def _size(key: str, value: int) -> int:
    """The size that a number is made, or itself."""
    if _TOKEN.fullmatch(key):
        return value % (VOCAB - 1) if value >= VOCAB else value
    sizes = (size for pattern, size in SIZES if re.fullmatch(pattern, key))
    return min(value, next(sizes, value)) if value > 0 else value
