"""Reads a model's weights, with one clear message for each possible problem."""

import re
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.config import auto_class
from logos_pl.lm.dtypes import DTYPES, dtype_for
from logos_pl.lm.foreign import blaming
from logos_pl.lm.gguf_files import check_tensors, reading_gguf
from logos_pl.lm.model_files import INDEX_ENDING, shards_of, weight_names
from logos_pl.lm.model_shape import shape_of
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import ModelSource, fetch_weights
from logos_pl.lm.weight_formats import WeightFormat, loading_options, plain_numbers
from logos_pl.lm.weight_headers import measure_weights

CPU = torch.device("cpu")
ALIGNMENT = 64
"""Alignment in bytes of the tensors that PyTorch allocates on a CPU."""
SLACK = 2
"""Maximum ratio of the model's parameters to the numbers in its files; below it, missing tensors are named."""
PACKED_SLACK = 16
"""The same for quantised weights, where one number in the file holds several."""
_NUMBER = re.compile(r"\.\d+(?=\.)")


def resolve_dtype(dtype: str | torch.dtype, device: torch.device, config: PreTrainedConfig) -> torch.dtype:
    """The requested number format; ``auto`` follows ``dtype_for``.

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


def read_model(
    source: ModelSource,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    stored: WeightFormat | None = None,
    device: torch.device = CPU,
) -> PreTrainedModel:
    """Load the model with all its weights on the CPU; weights that stay quantised are loaded on the target device.

    Args:
        source: Where the model is.
        config: Its configuration.
        dtype: Its number format.
        stored: Format of quantised weights; None for plain numbers.
        device: Where it will run.

    Raises:
        InputError: Weights are missing, damaged, incomplete, or those of another model.
        RunError: There is too little memory, or the disk fails.
    """
    name = source.model_id
    files = weight_files(source, config)
    loaded: Any
    shown = files[0] if len(files) == 1 else f"{files[0]} … {files[-1]}"
    generation, options = read_generation_config(source), loading_options(stored, source, config, device)
    reading = (
        blaming(f"{name} cannot be loaded from config.json and {shown}", "fetch the model again", name)
        if source.gguf is None
        else reading_gguf(source.gguf, name)
    )
    # Warnings of other libraries about each other's deprecated names.
    silent = nullcontext() if stored is None else warnings.catch_warnings(action="ignore")
    with quiet(), silent, reading:
        loaded = auto_class(config).from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            generation_config=generation,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that the check below names them in one message
            **options,
        )
    model, info = loaded
    checked_model(name, model, info)
    if stored is not None:
        plain_numbers(model, stored, dtype)
    if device.type == "cpu" and (stored is None or stored.block_bytes is None):
        align(model)
    return model


def align(model: nn.Module) -> None:
    """Align tensors as PyTorch allocates them, since matrix products on a CPU may round differently otherwise.

    In a mapped file, a tensor can begin at any multiple of 8 bytes, and a de-quantised one anywhere that NumPy puts it.
    The model's outputs must not depend on that: they are compared bit for bit with those of the same model streamed or
    sharded. Tensors that are one in memory, such as tied weights, stay one.
    """
    moved: dict[tuple[Any, ...], torch.Tensor] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.data_ptr() % ALIGNMENT:
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if place not in moved:
                moved[place] = tensor.data.clone()
            tensor.data = moved[place]


def checked_model(name: str, model: PreTrainedModel, info: dict[str, Any]) -> None:
    """Make sure that all of a model was read, and that its tables are finite.

    Args:
        name: What the model is called in messages.
        model: The model.
        info: transformers' report of the load.

    Raises:
        InputError: Weights are missing, do not fit or belong to additional blocks, or a table is not finite.
    """
    check_complete(name, info)
    _check_blocks(model, info["unexpected_keys"])
    _check_tables(model)


def read_generation_config(source: ModelSource) -> GenerationConfig | None:
    """The model's generation configuration, or None; transformers itself would ignore a damaged one silently.

    Raises:
        InputError: It is not valid.
    """
    name, folder = source.model_id, source.folder
    if not (folder / "generation_config.json").exists():
        return None
    with quiet(), blaming(f"generation_config.json of {name} is not valid", "fetch it again, or remove it", name):
        return GenerationConfig.from_pretrained(folder)


def weight_files(source: ModelSource, config: PreTrainedConfig) -> list[str]:
    """Names of the files that hold the weights, which are fetched if missing; their headers are checked.

    Raises:
        InputError: There are none, one is missing or damaged, or they hold too few numbers for the model.
    """
    if source.gguf is not None:
        _check_numbers(config, check_tensors(source.gguf, source.model_id, shape_of(config).num_blocks))
        return [source.gguf.name]
    files = _fetched_files(source, getattr(config, "transformers_weights", None))
    _check_numbers(config, measure_weights(source.folder, files, source.model_id).numbers)
    return files


def _fetched_files(source: ModelSource, given: object) -> list[str]:
    """Names of the files that hold the weights, which are fetched if missing.

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
    where = " in the local cache, and the Hub cannot be reached" if source.commit is not None else ""
    raise InputError(
        f"{name} has no weights{where} (model.safetensors or pytorch_model.bin, whole or in shards); fetch the "
        "complete model."
    )


def _check_numbers(config: PreTrainedConfig, found: int) -> None:
    """Refuse files with far too few weights for the model, before transformers allocates the missing ones."""
    slack = SLACK if getattr(config, "quantization_config", None) is None else PACKED_SLACK
    wanted = shape_of(config).num_parameters
    if wanted > slack * found:
        raise InputError(
            f"the weights of {config.name_or_path} hold {found:,} numbers, but its config.json describes a model of "
            f"{wanted:,}; fetch the model again."
        )


def check_complete(name: str, info: dict[str, Any]) -> None:
    """Refuse weights that transformers would silently initialise at random.

    Args:
        name: What the model is called in messages.
        info: transformers' report of the load.

    Raises:
        InputError: Tensors are missing, or of another shape.
    """
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
    """Refuse weights of blocks that are not in the configuration, which transformers would ignore."""
    config = model.config
    if getattr(config, "num_nextn_predict_layers", None):  # blocks for another purpose, after the last
        return
    patterns = {_NUMBER.sub(".*", key) for key in model.state_dict()}
    extra = sorted(key for key in unexpected if _NUMBER.search(key) and _NUMBER.sub(".*", key) in patterns)
    if extra:
        raise InputError(
            f"the weights of {config.name_or_path} have blocks that its config.json does not describe, {extra[0]} "
            "first; fetch the model again."
        )


def _check_tables(model: PreTrainedModel) -> None:
    """Refuse a configuration whose tables, such as rotary frequencies, are NaN or infinite."""
    for key, table in model.named_buffers():
        wrong = table.isnan() if "inv_freq" not in key else ~table.isfinite()
        if bool(wrong.any()):
            raise InputError(
                f"config.json of {model.config.name_or_path} is not valid ({key}, made from its numbers, is not "
                "finite); fetch the model again."
            )
