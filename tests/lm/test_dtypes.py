"""Number formats, from device, family and size."""

import pytest
import torch

from logos_pl.lm.dtypes import dtype_for, unembedding_dtype


@pytest.mark.parametrize(
    ("device", "family", "billions", "bf16", "wanted"),
    [
        ("cuda:0", "llama", 8, True, torch.bfloat16),
        ("cuda:1", "llama", 8, False, torch.float16),
        ("cuda", "gemma2", 9, False, torch.bfloat16),
        ("cuda", "gemma3_text", 4, False, torch.bfloat16),
        ("mps", "llama", 8, True, torch.float16),
        ("mps", "gemma2", 9, True, torch.bfloat16),
        ("cpu", "llama", 8, True, torch.float32),
        ("cpu", "gemma2", 27.2, True, torch.float32),
        ("cpu", "llama", 29.9, True, torch.float32),
        ("cpu", "llama", 30, True, torch.bfloat16),
        ("cpu", "llama", 70, True, torch.bfloat16),
    ],
)
def test_the_number_format_follows_device_family_and_size(
    device: str, family: str, billions: float, bf16: bool, wanted: torch.dtype
) -> None:
    assert dtype_for(device, family, int(billions * 1e9), bf16=bf16) == wanted
    assert dtype_for(torch.device(device), family, int(billions * 1e9), bf16=bf16) == wanted


def test_large_vocabularies_stay_in_half_precision_on_cuda_only() -> None:
    cuda, cpu, mps = (torch.device(name) for name in ("cuda", "cpu", "mps"))
    assert unembedding_dtype(cuda, 100_000, torch.bfloat16) == torch.bfloat16
    assert unembedding_dtype(cuda, 100_000, torch.float16) == torch.float16
    assert unembedding_dtype(cuda, 99_999, torch.bfloat16) == torch.float32
    assert unembedding_dtype(cuda, 100_000, torch.float32) == torch.float32
    assert unembedding_dtype(cpu, 256_000, torch.bfloat16) == torch.float32
    assert unembedding_dtype(mps, 256_000, torch.float16) == torch.float32
