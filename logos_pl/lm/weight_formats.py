"""Formats of quantised weights: which are supported, their memory, and which stay quantised in memory.

Weights that a library can compute with directly stay quantised (bitsandbytes, GPTQ, AWQ); others are de-quantised when
they are read. A quantised output layer is always de-quantised, so that head and norms are those of an ordinary
model. Everything else is refused before any weight is read.
"""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import GgufConfig, PreTrainedConfig, PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.gguf_files import read_gguf_header
from logos_pl.lm.packages import require_packages
from logos_pl.lm.sources import ModelSource

ABSMAX_BYTES = 4 / 64
"""A 4-bit format's scale: one fp32 number for 64 weights."""


class WeightFormat(NamedTuple):
    """Format of a model's weights that are not plain numbers.

    Attributes:
        name: Its name, such as ``bitsandbytes 8-bit``.
        block_bytes: Bytes per weight inside the blocks in memory; None: given by the model's dtype, as weights are
            de-quantised when they are read.
        packages: Packages needed to read it.
        plain: Whether its numbers are not quantised, as in some GGUF files.
    """

    name: str
    block_bytes: float | None
    packages: tuple[str, ...]
    plain: bool = False

    @property
    def in_memory(self) -> str:
        """How the weights of the blocks are in memory."""
        if self.plain:
            return "without quantisation"
        return "de-quantised when it is loaded" if self.block_bytes is None else "quantised in memory"


READ = {
    "bitsandbytes_8bit": WeightFormat("bitsandbytes 8-bit", 1.0, ("bitsandbytes", "accelerate")),
    "bitsandbytes_4bit": WeightFormat("bitsandbytes 4-bit", 0.5 + ABSMAX_BYTES, ("bitsandbytes", "accelerate")),
    "gptq": WeightFormat("GPTQ", 0.5 + ABSMAX_BYTES, ("gptqmodel", "optimum", "accelerate")),
    "awq": WeightFormat("AWQ", 0.5 + ABSMAX_BYTES, ("gptqmodel", "accelerate")),
    "fp8": WeightFormat("fp8", None, ("accelerate",)),
    "compressed-tensors": WeightFormat("compressed-tensors", None, ("compressed-tensors", "accelerate")),
}
"""Formats by transformers' name for the method."""

ON_GPU = ("eetq", "fbgemm_fp8", "fp_quant", "higgs", "metal", "nvfp4", "spqr", "vptq")
"""Methods that transformers runs on GPUs only."""


def format_of(source: ModelSource, config: PreTrainedConfig) -> WeightFormat | None:
    """The format of a model's weights; None for plain numbers.

    Raises:
        InputError: The format is not supported, a package is missing, or the GGUF file is damaged.
    """
    if source.gguf is not None:
        header = read_gguf_header(source.gguf, source.model_id)
        return WeightFormat(header.format, None, (), plain=header.plain)
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    given = stored if isinstance(stored, Mapping) else {}
    name, method = source.model_id, method_of(given)
    if method not in READ:
        reason = "runs only on certain GPUs, and which" if method in ON_GPU else "is a format that"
        raise InputError(
            f"{name} is quantised by the method {method!r}, which {reason} logos-pl does not read; those read are "
            f"{', '.join(READ)} and GGUF files (--model.gguf)."
        )
    found = READ[method]
    require_packages(f"{name} has {found.name} weights, and reading them", found.packages)
    bits = given.get("bits")
    if method in ("gptq", "awq") and isinstance(bits, int) and 0 < bits <= 8:
        found = found._replace(name=f"{found.name} {bits}-bit", block_bytes=bits / 8 + ABSMAX_BYTES)
    return found


def method_of(given: Mapping[str, Any]) -> str:
    """Transformers' name for the method of a ``quantization_config``."""
    if given.get("load_in_8bit") or given.get("load_in_4bit"):
        return "bitsandbytes_4bit" if given.get("load_in_4bit") else "bitsandbytes_8bit"
    return str(given.get("quant_method"))


def refuse_placement(name: str, what: str | None, placement: str) -> None:
    """Check that a quantised or adapted model is resident.

    Args:
        name: What the model is called in messages.
        what: Description of the format or adapter; None for plain weights.
        placement: Placement of its blocks.

    Raises:
        InputError: They are to be streamed or sharded.
    """
    if what is not None and placement in ("streamed", "sharded"):
        raise InputError(
            f"{name} has {what}, which is neither streamed nor sharded: use weights without quantisation or adapter, "
            "or give --model.placement resident."
        )


def loading_options(
    found: WeightFormat | None, source: ModelSource, config: PreTrainedConfig, device: torch.device
) -> dict[str, Any]:
    """Options of ``from_pretrained`` for a format.

    Args:
        found: The format; None for plain numbers.
        source: Where the model is.
        config: Its configuration, which is told to de-quantise.
        device: Where it will run.
    """
    if found is None:
        return {}
    if source.gguf is not None:
        return {"gguf_file": source.gguf.name, "quantization_config": GgufConfig(dequantize=True)}
    if found.block_bytes is None:
        config.quantization_config = {**config.quantization_config, "dequantize": True}
        return {}
    # It warns at every matrix product of what docs/formats.md documents.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # Weights that stay quantised cannot all be moved later.
    return {"device_map": {"": device}}


def plain_numbers(model: PreTrainedModel, found: WeightFormat, dtype: torch.dtype) -> None:
    """Replace a quantised output layer by an ordinary one, and cast unquantised weights to the model's dtype.

    Args:
        model: The model as transformers has read it.
        found: Its format.
        dtype: Its number format.
    """
    kept = model._keep_in_fp32_modules or []
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not any(part in name for part in kept):
            parameter.data = parameter.data.to(dtype)
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.weight.is_floating_point():
        return
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight  # loads bitsandbytes

    stored: Any = head.weight
    weight = dequantize_bnb_weight(stored, getattr(head, "state", None)).detach().to(dtype)
    linear = nn.Linear(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if head.bias is not None:
        linear.bias = nn.Parameter(head.bias.detach().to(dtype), requires_grad=False)
    model.set_output_embeddings(linear)
