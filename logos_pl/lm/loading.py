"""Reading a model's configuration, tokenizer and weights, with one sentence for all that can be wrong with them."""

import re
import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import __version__ as transformers_version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from logos_pl.errors import InputError
from logos_pl.lm import sources
from logos_pl.lm.config_values import check_values
from logos_pl.lm.devices import ModelShape, dtype_for, shape_of
from logos_pl.lm.foreign import blaming
from logos_pl.lm.model_files import INDEX_ENDING, shards_of, weight_names
from logos_pl.lm.quiet import quiet, without_stderr
from logos_pl.lm.sources import Source, fetch_small, fetch_weights, locate
from logos_pl.lm.weight_headers import measure_weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ATTENTIONS = (None, "eager", "sdpa")
"""Attention that runs everywhere; others need packages and cards."""
SLACK = 2
"""A model may have so many times the numbers that its files hold: what lacks a little is named tensor by tensor."""
PACKED_SLACK = 16
"""The same for quantised weights, of which one number of the file holds several."""
_NUMBER = re.compile(r"\.\d+(?=\.)")
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def context_length(config: PreTrainedConfig) -> int | None:
    """Longest sequence in tokens a model has positions for; None where its configuration sets no bound."""
    text = config.get_text_config(decoder=True)
    values = (getattr(text, name, None) for name in CONTEXT_NAMES)
    return next((value for value in values if isinstance(value, int)), None)


def vocabulary_size(config: PreTrainedConfig) -> int:
    """Rows of a model's embedding: the ids that it has, whatever its tokenizer knows."""
    return int(config.get_text_config(decoder=True).vocab_size)


def load_tokenizer(model_id: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A model's tokenizer, without its weights.

    Raises:
        InputError: The model or its tokenizer cannot be found or read.
    """
    return read_tokenizer(locate(model_id, revision))


def count_parameters(model_id: str, revision: str | None = None) -> int:
    """Parameters of a model, from its configuration alone.

    Raises:
        InputError: The model cannot be found, or is no causal language model.
    """
    return model_shape(model_id, revision).num_parameters


def model_shape(model_id: str, revision: str | None = None) -> ModelShape:
    """Sizes of a model, from its configuration alone: what decides on the device before weights are fetched.

    Raises:
        InputError: The model cannot be found, or is no causal language model.
    """
    return shape_of(read_config(locate(model_id, revision)))


def read_config(source: Source) -> PreTrainedConfig:
    """The configuration of a causal language model that transformers knows without foreign code.

    Raises:
        InputError: Unknown architecture, one that needs its own code, one that is no causal language model, or values
            that no model has.
    """
    name = source.model_id
    raw = sources.read_config_dict(source)
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
    _settle_attention(config)
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


def _settle_attention(config: PreTrainedConfig) -> None:
    """Leaves the choice to transformers where the configuration names an attention that may not run here."""
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


def read_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        InputError: It is missing, or cannot be read.
    """
    name, folder = source.model_id, fetch_small(source)
    if not sources.has_vocabulary(folder):
        where = f"the folder {folder}" if source.commit is None else name
        raise InputError(
            f"{where} has no tokenizer (tokenizer.json or a vocabulary file); save the model's tokenizer into it."
        )
    _check_packages(name, folder)
    remedy = "fetch them again"
    with (
        quiet(),
        without_stderr(),
        blaming(f"the tokenizer files of {name} cannot be read", remedy, f"the tokenizer of {name}"),
    ):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        # What is read of it later, so that a wrong value is met here.
        tokenizer("")
        tokenizer.all_special_ids  # noqa: B018
        len(tokenizer)
    return tokenizer


def _check_packages(name: str, folder: Path) -> None:
    """Refuses a vocabulary that takes a package to convert, which transformers meets with errors of other kinds."""
    if (folder / "tokenizer.json").exists():
        return
    for pattern, package in (("*.model", "sentencepiece"), ("*.tiktoken", "tiktoken")):
        found = sorted(folder.glob(pattern))
        if found and find_spec(package) is None:
            raise InputError(
                f"the tokenizer of {name} is {found[0].name} alone, which takes the package {package} to read: "
                f"`pip install {package} protobuf`, or add its tokenizer.json."
            )


def resolve_dtype(dtype: str | torch.dtype, device: torch.device, config: PreTrainedConfig) -> torch.dtype:
    """The number format asked for; ``auto`` follows ``dtype_for``.

    Raises:
        InputError: An unknown name.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
        shape = shape_of(config)
        return dtype_for(device, shape.family, shape.num_parameters, bf16=bf16)
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}, but must be `auto`, {', '.join(f'`{name}`' for name in DTYPES)}.")
    return DTYPES[dtype]


def read_model(source: Source, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The model with all its weights, on the CPU.

    Raises:
        InputError: Weights are missing, damaged, incomplete, or those of another model.
        RunError: Memory is short, or the disk refuses.
    """
    name = source.model_id
    files = _weight_files(source, getattr(config, "transformers_weights", None))
    _check_numbers(config, measure_weights(source.folder, files, name).numbers)
    loaded: Any
    shown = files[0] if len(files) == 1 else f"{files[0]} … {files[-1]}"
    generation = _read_generation_config(source)
    with quiet(), blaming(f"{name} cannot be loaded from config.json and {shown}", "fetch the model again", name):
        loaded = AutoModelForCausalLM.from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            generation_config=generation,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named below, in one sentence
        )
    model, info = loaded
    _check_complete(name, info)
    _check_blocks(model, info["unexpected_keys"])
    _check_tables(model)
    return model


def _read_generation_config(source: Source) -> GenerationConfig | None:
    name, folder = source.model_id, source.folder
    if not (folder / "generation_config.json").exists():
        return None
    with quiet(), blaming(f"generation_config.json of {name} is not valid", "fetch it again, or remove it", name):
        return GenerationConfig.from_pretrained(folder)


def _weight_files(source: Source, given: object) -> list[str]:
    """Names of the files that hold the weights, fetched where they are not there yet.

    Raises:
        InputError: There are none.
    """
    name = source.model_id
    for candidate in weight_names(given, name):
        folder = fetch_weights(source, [candidate])
        if not (folder / candidate).exists():
            continue
        if not candidate.endswith(INDEX_ENDING):
            return [candidate]
        shards = shards_of(folder, candidate, name)
        fetch_weights(source, shards)
        return shards
    where = " in the local cache, and the Hub cannot be asked" if source.commit is not None else ""
    raise InputError(
        f"{name} has no weights{where} (model.safetensors or pytorch_model.bin, whole or in shards); fetch the "
        "complete model."
    )


def _check_numbers(config: PreTrainedConfig, found: int) -> None:
    """Refuses weights that are far too few for the model, before what is missing is made."""
    slack = SLACK if getattr(config, "quantization_config", None) is None else PACKED_SLACK
    wanted = shape_of(config).num_parameters
    if wanted > slack * found:
        raise InputError(
            f"the weights of {config.name_or_path} hold {found:,} numbers, and its config.json describes a model of "
            f"{wanted:,}; fetch the model again."
        )


def _check_complete(name: str, info: dict[str, Any]) -> None:
    """Refuses what transformers would fill with random numbers and go on."""
    missing, mismatched = sorted(info["missing_keys"]), sorted(info["mismatched_keys"])
    if missing:
        raise InputError(
            f"the weights of {name} lack {len(missing)} tensors of its architecture, {missing[0]} first; fetch the "
            "complete model."
        )
    if mismatched:
        key, found, wanted = mismatched[0]
        raise InputError(
            f"the weights of {name} do not fit its config.json: {key} is {list(found)} in the file and {list(wanted)} "
            "by the configuration; fetch the model again."
        )


def _check_blocks(model: PreTrainedModel, unexpected: Iterable[str]) -> None:
    """Refuses weights of blocks that the configuration does not describe, which transformers would leave out."""
    config = model.config
    if getattr(config, "num_nextn_predict_layers", None):  # blocks of another use, behind the last
        return
    patterns = {_NUMBER.sub(".*", key) for key in model.state_dict()}
    extra = sorted(key for key in unexpected if _NUMBER.search(key) and _NUMBER.sub(".*", key) in patterns)
    if extra:
        raise InputError(
            f"the weights of {config.name_or_path} have blocks that its config.json does not describe, with {extra[0]} "
            "first; fetch the model again."
        )


def _check_tables(model: PreTrainedModel) -> None:
    """Refuses tables, such as rotary frequencies, that the configuration's numbers make into NaN or infinity."""
    for key, table in model.named_buffers():
        wrong = table.isnan() if "inv_freq" not in key else ~table.isfinite()
        if bool(wrong.any()):
            raise InputError(
                f"config.json of {model.config.name_or_path} is not valid ({key}, made from its numbers, is not "
                "finite); fetch the model again."
            )
