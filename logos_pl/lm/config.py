"""Reading a model's configuration, with one sentence for all that can be wrong with it."""

import warnings
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig
from transformers import __version__ as transformers_version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from logos_pl.errors import InputError
from logos_pl.lm.config_values import check_values
from logos_pl.lm.foreign import blaming
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import ModelSource, fetch_small, read_config_dict

ATTENTIONS = (None, "eager", "sdpa")
"""Attention that runs everywhere; others need packages and cards."""
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def context_length(config: PreTrainedConfig) -> int | None:
    """Longest sequence in tokens a model has positions for; None where its configuration sets no bound."""
    text = config.get_text_config(decoder=True)
    values = (getattr(text, name, None) for name in CONTEXT_NAMES)
    return next((value for value in values if isinstance(value, int)), None)


def vocabulary_size(config: PreTrainedConfig) -> int:
    """Rows of a model's embedding: the number of its token ids, which its tokenizer need not all know."""
    return int(config.get_text_config(decoder=True).vocab_size)


def read_config(source: ModelSource) -> PreTrainedConfig:
    """The configuration of a causal language model that transformers knows without foreign code.

    Raises:
        InputError: Unknown architecture, one that needs its own code, one other than a causal language model, or values
            that no model has.
    """
    name = source.model_id
    raw = read_config_dict(source)
    family = raw.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        raise _unknown_family(name, family, raw)
    check_values(raw, name)
    folder = fetch_small(source)
    with quiet(), blaming(f"config.json of {name} is not valid", "fetch the model again", name, raw):
        # Preferences on what a forward returns, which would hide the logits or cost memory.
        config = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, return_dict=True, output_attentions=False, output_hidden_states=False
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            f"{name} is of the architecture {family!r}, which is no causal language model; take a decoder-only "
            "language model."
        )
    config.name_or_path = name
    _resolve_attention(config)
    _check_sizes(config)
    return config


def _unknown_family(name: str, family: object, raw: dict[str, Any]) -> InputError:
    if "auto_map" in raw:
        return InputError(
            f"{name} needs code from its repository, which is never run; take a model whose architecture transformers "
            "has built in."
        )
    return InputError(
        f"{name} has the architecture {family!r}, which transformers {transformers_version} does not know; take "
        "another model."
    )


def _resolve_attention(config: PreTrainedConfig) -> None:
    """Leaves the choice to transformers where the configuration names an attention that may not run everywhere."""
    asked = config._attn_implementation
    if asked in ATTENTIONS:
        return
    config._attn_implementation = None
    warnings.warn(
        f"config.json of {config.name_or_path} asks for the attention {asked!r}: torch's own is used instead.",
        stacklevel=3,
    )


def _check_sizes(config: PreTrainedConfig) -> None:
    name = str(config.name_or_path)
    with blaming(f"config.json of {name} is not valid", "fetch the model again", name):
        text = config.get_text_config(decoder=True)
        sizes = {key: getattr(text, key, None) for key in ("num_hidden_layers", "hidden_size", "vocab_size")}
        sizes |= {key: value for key in CONTEXT_NAMES if (value := getattr(text, key, None)) is not None}
    for key, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(
                f"config.json of {name} is not valid ({key} must be a positive integer, and is {value!r}); fetch the "
                "model again."
            )
