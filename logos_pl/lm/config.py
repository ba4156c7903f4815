"""Reads a model's configuration, with one clear message for each possible problem."""

import warnings
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    PreTrainedConfig,
)
from transformers import __version__ as transformers_version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from logos_pl.errors import InputError
from logos_pl.lm.config_values import check_values
from logos_pl.lm.foreign import blaming
from logos_pl.lm.gguf_files import read_gguf_config
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import ModelSource, fetch_small, read_config_dict

ATTENTIONS = (None, "eager", "sdpa")
"""Attention implementations that run everywhere; others need packages or GPUs."""
NO_BOUND = -1
"""Number of positions in the configuration of an XLNet, which has no limit."""
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def context_length(config: PreTrainedConfig) -> int | None:
    """Context length in tokens; None if the configuration sets no limit."""
    text = config.get_text_config(decoder=True)
    values = (getattr(text, name, None) for name in CONTEXT_NAMES)
    return next((value for value in values if isinstance(value, int) and value != NO_BOUND), None)


def vocabulary_size(config: PreTrainedConfig) -> int:
    """Number of token ids of a model (rows of its embedding), which may exceed those of its tokenizer."""
    return int(config.get_text_config(decoder=True).vocab_size)


def auto_class(config: PreTrainedConfig) -> Any:
    """The class of transformers that builds a causal language model from a configuration.

    For a model that also reads images or sounds (Qwen2.5-VL, LLaVA), it is the class of the whole model, whose language
    model runs on token ids alone.
    """
    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForMultimodalLM


def read_config(source: ModelSource) -> PreTrainedConfig:
    """Read the configuration of a causal language model that transformers supports without remote code.

    Raises:
        InputError: Unknown architecture, one that needs remote code, not a causal language model, or invalid values.
    """
    name = source.model_id
    raw = read_config_dict(source) if source.gguf is None else read_gguf_config(source.gguf, name)
    family = raw.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        raise _unknown_family(name, family, raw)
    check_values(raw, name)
    folder = fetch_small(source)
    with quiet(), blaming(f"config.json of {name} is not valid", "fetch the model again", name, raw):
        # Settings of what a forward pass returns, which would hide the logits or cost memory.
        returned = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
        if source.gguf is None:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **returned)
        else:
            config = CONFIG_MAPPING[family].from_dict({**raw, **returned})
    if not _has_causal_lm(config):
        raise InputError(
            f"{name} is of the architecture {family!r}, which is not a causal language model; use a decoder-only "
            "language model."
        )
    config.name_or_path = name
    _resolve_attention(config)
    _check_sizes(config)
    return config


def _has_causal_lm(config: PreTrainedConfig) -> bool:
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return True
    return type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING and not getattr(config, "is_encoder_decoder", False)


def _unknown_family(name: str, family: object, raw: dict[str, Any]) -> InputError:
    if "auto_map" in raw:
        return InputError(
            f"{name} needs code from its repository, which is never run; use a model whose architecture transformers "
            "has built in."
        )
    return InputError(
        f"{name} has the architecture {family!r}, which transformers {transformers_version} does not know; take "
        "another model."
    )


def _resolve_attention(config: PreTrainedConfig) -> None:
    """Let transformers choose if the configuration requests an attention implementation that may be unavailable."""
    configured = config._attn_implementation
    if configured in ATTENTIONS:
        return
    config._attn_implementation = None
    warnings.warn(
        f"config.json of {config.name_or_path} requests the attention {configured!r}: torch's own is used instead.",
        stacklevel=3,
    )


def _check_sizes(config: PreTrainedConfig) -> None:
    name = str(config.name_or_path)
    with blaming(f"config.json of {name} is not valid", "fetch the model again", name):
        text = config.get_text_config(decoder=True)
        sizes = {key: getattr(text, key, None) for key in ("num_hidden_layers", "hidden_size", "vocab_size")}
        sizes |= {key: value for key in CONTEXT_NAMES if (value := getattr(text, key, None)) not in (None, NO_BOUND)}
    absent = [key for key, value in sizes.items() if value is None]
    if absent:
        raise InputError(
            f"{name} is not supported: a configuration of the architecture {config.model_type!r} has no "
            f"{absent[0]}, as its model is not one stack of blocks; use another model."
        )
    for key, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(
                f"config.json of {name} is not valid ({key} must be a positive integer, but is {value!r}); fetch the "
                "model again."
            )
