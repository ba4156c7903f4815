"""Number formats, of a model on its device and of the unembedding in lenses. Source: docs/method.md §2.1, §9."""

from typing import Literal

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Formats that a user can choose."""
Fp32Unembed = bool | Literal["auto"]
"""Whether lenses hold the unembedding in fp32; `auto`: the rule of `unembedding_dtype`."""
BF16_ON_CPU_FROM = 30_000_000_000
# From this size on, an fp32 copy of the unembedding costs more than it gains on CUDA (docs/method.md §2.1).
LARGE_VOCABULARY = 100_000


def dtype_for(device: torch.device | str, family: str, num_parameters: int, *, bf16: bool = True) -> torch.dtype:
    """The number format of docs/method.md §9 for a device: half precision on accelerators, fp32 on the CPU below 30B.

    Args:
        device: Device or its name.
        family: ``model_type``; Gemma overflows in fp16 and always gets bf16.
        num_parameters: Parameters of the model.
        bf16: Whether the device supports bfloat16.
    """
    kind = str(device).split(":")[0]
    if kind == "cpu":
        return torch.bfloat16 if num_parameters >= BF16_ON_CPU_FROM else torch.float32
    if "gemma" in family:
        return torch.bfloat16
    return torch.bfloat16 if kind == "cuda" and bf16 else torch.float16


def unembedding_dtype(
    device: torch.device, vocab_size: int, weight_dtype: torch.dtype, fp32: Fp32Unembed = "auto"
) -> torch.dtype:
    """Number format in which lenses hold the unembedding; logits and everything computed from them are always fp32.

    Args:
        device: Its device.
        vocab_size: Size of the vocabulary.
        weight_dtype: The model's own number format.
        fp32: fp32 always, or the model's own format always; `auto`: half precision for a half-precision head on CUDA
            from 100k tokens on, fp32 in every other case. Source: docs/method.md §2.1, large vocabularies.
    """
    if weight_dtype not in (torch.float16, torch.bfloat16):
        return torch.float32
    large = device.type == "cuda" and vocab_size >= LARGE_VOCABULARY
    return torch.float32 if fp32 is True or (fp32 == "auto" and not large) else weight_dtype
