"""Reading a model's configuration, tokenizer and weights, with one sentence for all that can be wrong with them."""

from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import __version__ as transformers_version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from logos_pl.errors import InputError
from logos_pl.lm import sources
from logos_pl.lm.devices import ModelShape, dtype_for, shape_of
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import Source, explain, first_sentence, locate

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
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
    source = locate(model_id, revision)
    return _shape(source.model_id, read_config(source))


def _shape(name: str, config: PreTrainedConfig) -> ModelShape:
    try:
        return shape_of(config)
    except ImportError as error:
        raise InputError(f"{name} needs a package that is not installed: {first_sentence(error)}") from error


def read_config(source: Source) -> PreTrainedConfig:
    """The configuration of a causal language model that transformers knows without foreign code.

    Raises:
        InputError: Unknown architecture, one that needs its own code, or one that is no causal language model.
    """
    raw = sources.read_config_dict(source)
    family = raw.get("model_type")
    if family not in CONFIG_MAPPING:
        if "auto_map" in raw:
            raise InputError(
                f"{source.model_id} needs code from its repository, which is never run; take a model whose "
                "architecture transformers has built in."
            )
        raise InputError(
            f"{source.model_id} has the architecture {family!r}, which transformers {transformers_version} does not "
            "know; take another model."
        )
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source.place, revision=source.commit, trust_remote_code=False)
    except OSError as error:
        raise explain(error, source.model_id, source.commit) from error
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise _bad_config(source, error) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            f"{source.model_id} is of the architecture {family!r}, which is no causal language model; take a "
            "decoder-only language model."
        )
    return config


def read_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        InputError: It is missing, or cannot be read.
    """
    folder = source.folder
    if folder is not None and not sources.has_vocabulary(folder):
        raise InputError(
            f"the folder {folder} has no tokenizer (tokenizer.json or a vocabulary file); save the model's tokenizer "
            "into it."
        )
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(source.place, revision=source.commit, trust_remote_code=False)
    except ImportError as error:
        raise InputError(f"the tokenizer of {source.model_id} needs a package: {first_sentence(error)}") from error
    except OSError as error:
        raise explain(error, source.model_id, source.commit) from error
    except Exception as error:
        # The tokenizers library raises Exception itself for a file it cannot parse; its subclasses go by name.
        if not isinstance(error, ValueError | TypeError | KeyError) and type(error) is not Exception:
            raise
        raise InputError(
            f"the tokenizer files of {source.model_id} cannot be read ({first_sentence(error)[:-1]}); fetch them again."
        ) from error


def resolve_dtype(dtype: str | torch.dtype, device: torch.device, config: PreTrainedConfig) -> torch.dtype:
    """The number format asked for; ``auto`` follows ``dtype_for``.

    Raises:
        InputError: An unknown name.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
        shape = _shape(str(config.model_type), config)
        return dtype_for(device, shape.family, shape.num_parameters, bf16=bf16)
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}, but must be `auto`, {', '.join(f'`{name}`' for name in DTYPES)}.")
    return DTYPES[dtype]


def read_model(source: Source, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The model with all its weights, on the CPU.

    Raises:
        InputError: Weights are missing, damaged or incomplete.
    """
    name = source.model_id
    loaded: Any
    try:
        with quiet():
            loaded = AutoModelForCausalLM.from_pretrained(
                source.place,
                revision=source.commit,
                config=config,
                dtype=dtype,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are named below, in one sentence
            )
    except SafetensorError as error:
        raise InputError(
            f"a weights file of {name} is damaged ({first_sentence(error)[:-1]}); fetch it again."
        ) from error
    except ImportError as error:
        raise InputError(f"{name} needs a package that is not installed: {first_sentence(error)}") from error
    except (OSError, ValueError) as error:
        raise explain(error, name, source.commit) from error
    model, info = loaded
    _check_complete(name, info)
    return model


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


def _bad_config(source: Source, error: Exception) -> InputError:
    text = " ".join(str(error).split()).rstrip(".")
    return InputError(f"config.json of {source.model_id} is not valid ({text}); fetch the model again.")
