"""The estimate of memory, from numbers alone."""

import pytest
import torch

from logos_pl.lm.dtypes import unembedding_dtype
from logos_pl.lm.memory import GIB, ModelShape, StepSize, memory_parts, streamed_parts
from tests.lm.model_shapes import GEMMA_27B, LLAMA_8B, LLAMA_70B


def needed_bytes(shape: ModelShape, kind: str, dtype: torch.dtype, **step: int) -> int:
    return memory_parts(shape, kind, dtype, StepSize(**step)).total


def test_the_estimate_is_above_the_weights_and_below_twice_them_for_a_large_model() -> None:
    for shape in (LLAMA_8B, LLAMA_70B, GEMMA_27B):
        weights = 2 * shape.num_parameters
        assert weights < needed_bytes(shape, "cuda", torch.bfloat16) < 2 * weights


def test_the_estimate_counts_an_fp32_copy_of_the_head_only_where_one_is_made() -> None:
    small = LLAMA_8B._replace(vocab_size=99_000)
    assert memory_parts(small, "cuda", torch.bfloat16, StepSize()).head == 99_000 * 4096 * 4
    assert memory_parts(LLAMA_8B, "cuda", torch.bfloat16, StepSize()).head == 0
    assert needed_bytes(LLAMA_8B, "cpu", torch.bfloat16) > needed_bytes(LLAMA_8B, "cpu", torch.bfloat16, rank=0)


@pytest.mark.parametrize("vocab", [1_000, 128_256])
@pytest.mark.parametrize("kind", ["cuda", "mps", "cpu"])
def test_the_unembeddings_format_can_be_asked_for_and_is_counted(kind: str, vocab: int) -> None:
    shape, copied = LLAMA_8B._replace(vocab_size=vocab), vocab * 4096 * 4
    found = {
        fp32: memory_parts(shape, kind, torch.bfloat16, StepSize(fp32_unembed=fp32)).head for fp32 in (True, False)
    }
    widened = 0 if kind == "cuda" else min(2**26, copied)
    assert found == {True: copied, False: widened}
    assert unembedding_dtype(torch.device(kind), vocab, torch.bfloat16, True) == torch.float32
    assert unembedding_dtype(torch.device(kind), vocab, torch.bfloat16, False) == torch.bfloat16
    assert memory_parts(shape, kind, torch.float32, StepSize(fp32_unembed=True)).head == 0


def test_an_8b_lens_fits_a_card_of_24_gb_by_hand() -> None:
    """8 sequences of 512 tokens, 12 positions each; what is written out here is what the arithmetic has to say."""
    parts = memory_parts(LLAMA_8B, "cuda", torch.bfloat16, StepSize(rank=256, positions_per_seq=12, micro_batch_seqs=8))
    d, rows, vocab = 4096, 31, 128_256
    assert parts.weights == pytest.approx(1.08 * 2 * 8.03e9, rel=1e-3)
    # fp32; value, gradient, two moments, average, and value and gradient out of the basis, of two d × d maps
    assert parts.lens == rows * (d * 256 + 256 * d + d + d) * 4 * 7 + 2 * d * d * 4
    assert parts.activations == 8 * 512 * 32 * d * 2
    assert parts.residuals == 32 * 8 * 12 * d * 18
    assert parts.loss == int(4.5 * 2**28) + 3 * rows * vocab * 4
    assert parts.total == sum(parts) < 24e9 < needed_bytes(LLAMA_8B, "cuda", torch.bfloat16, micro_batch_seqs=16)


def test_a_streamed_70b_lens_fits_a_card_of_24_gb_by_hand() -> None:
    step = StepSize(rank=128, positions_per_seq=32, micro_batch_seqs=4)
    parts = streamed_parts(LLAMA_70B, "cuda", torch.bfloat16, step, group_tokens=2**16)
    resident = memory_parts(LLAMA_70B, "cuda", torch.bfloat16, step)
    assert parts.blocks == pytest.approx(1.08 * 2 * 2 * 855_654_400, rel=1e-6)
    assert parts.outside == pytest.approx(1.08 * 2 * 2_101_354_496, rel=1e-6)
    assert parts.group == 2 * 2**16 * 8192 * 2
    assert parts.beside == resident.total - resident.weights
    assert parts.kept == 81 * 128 * 32 * 8192 * 2  # every row at 32 of 512 positions of 128 sequences
    assert parts.staging == 2 * 2 * 2 * 855_654_400
    assert parts.on_device("cuda") == parts.blocks + parts.outside + parts.group + parts.beside < 24e9
    assert parts.on_host == parts.kept + parts.staging
    on_cpu = streamed_parts(LLAMA_70B, "cpu", torch.bfloat16, step, group_tokens=2**16)
    assert on_cpu.on_device("cpu") == sum(on_cpu)
    assert on_cpu.staging == 0


def test_a_shard_of_a_70b_model_by_hand() -> None:
    whole, quarter = (memory_parts(LLAMA_70B, "cuda", torch.bfloat16, StepSize(), shards) for shards in (None, 4))
    blocks, outside = 80 * 855_654_400, 2_101_354_496
    assert whole.weights == pytest.approx(1.08 * 2 * (blocks + outside), rel=1e-6)
    assert quarter.weights == pytest.approx(1.08 * 2 * (blocks / 4 + outside + 3 * 855_654_400), rel=1e-6)
    assert quarter._replace(weights=whole.weights) == whole


def test_sizes_that_were_not_counted_are_estimated() -> None:
    rough = LLAMA_70B._replace(largest_block=None, outside_blocks=None)
    for shape in (rough, LLAMA_70B):
        parts = streamed_parts(shape, "cuda", torch.bfloat16, StepSize(), 2**14)
        assert parts.blocks == pytest.approx(1.08 * 2 * 2 * 855_654_400, rel=0.05)
        assert parts.outside == pytest.approx(1.08 * 2 * 2_101_354_496, rel=0.05)


def test_a_tiny_model_needs_little() -> None:
    tiny = ModelShape("llama", 5_600_000, 8, 192, 6144)
    assert needed_bytes(tiny, "cpu", torch.float32) < 0.5 * GIB


def test_weights_that_stay_quantised_take_their_own_bytes_inside_the_blocks() -> None:
    plain = memory_parts(LLAMA_8B, "cuda", torch.bfloat16, StepSize())
    assert LLAMA_8B.outside_blocks is not None
    inside = LLAMA_8B.num_parameters - LLAMA_8B.outside_blocks
    for num_bytes in (1.0, 0.5625):
        stored = memory_parts(LLAMA_8B._replace(block_bytes=num_bytes), "cuda", torch.bfloat16, StepSize())
        assert stored.weights == int((int(inside * num_bytes) + 2 * LLAMA_8B.outside_blocks) * 1.08)
        assert stored._replace(weights=plain.weights) == plain
