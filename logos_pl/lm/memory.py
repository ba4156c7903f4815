"""Memory that fitting a lens takes, estimated from sizes before any weight is read.

The estimate is conservative; all its constants are here. docs/memory.md has tables of its results.
"""

from typing import NamedTuple

import torch

from logos_pl.functional.unembedding import WIDENED_BYTES
from logos_pl.lm.dtypes import Fp32Unembed, unembedding_dtype

GIB = 2**30
# Weights, plus buffers and the allocator's fragments.
WEIGHT_MARGIN = 1.08
# CUDA context and library workspaces.
CUDA_OVERHEAD = int(0.8 * GIB)
# Live numbers per token and unit of width in a forward pass without gradient: three MLP widths and four of the model's,
# so 14.5 for Llama-3-8B (measured on its shape) and 28 for Gemma-2-27B, whose MLP is eight times as wide as the model.
ACTIVATIONS_PER_TOKEN = 32
# Per row, position and unit of width: the residual, and in fp32 the normed and translated residuals and their
# gradients; 14.4 were measured.
RESIDUAL_BYTES = 18
# The lens loss keeps at most this many blocks of logits, whatever the number of rows.
LOSS_BLOCKS = 4.5
# The bias-only lens's loss sums gradients over positions: fp32 numbers per row and token of the vocabulary.
BIAS_ONLY_SUMS = 3
# Translators in fp32: value, gradient, AdamW's two moments, the average, and value and gradient in the plain basis.
TRANSLATOR_COPIES = 7
# Jacobians in fp32: their sums, their means, and the copy that is written.
JACOBIAN_COPIES = 3
# Blocks of a sharded model that are unsharded at a time: the one that computes, and the next while it is gathered.
GATHERED_BLOCKS = 3
# Copies of a streamed group's residual stream: a block's input and its output.
STREAM_COPIES = 2
# Page-locked memory comes in powers of two.
PINNED_MARGIN = 2
MICRO_BATCH_SEQS = {"cuda": 32, "mps": 8, "cpu": 8}
"""Sequences per forward pass if the user gives none and memory suffices. Source: docs/method.md §2.1."""


class ModelShape(NamedTuple):
    """Sizes of a model that determine its memory.

    Attributes:
        family: ``model_type`` of the configuration.
        num_parameters: Parameters, tied ones once.
        num_blocks: Transformer blocks.
        d_model: Width.
        vocab_size: Tokens.
        largest_block: Parameters of the largest block; None if not counted.
        outside_blocks: Parameters outside the blocks, tied ones once; None if not counted.
        block_bytes: Bytes per parameter inside the blocks of a model that stays quantised in memory; None: given by
            the number format.
    """

    family: str
    num_parameters: int
    num_blocks: int
    d_model: int
    vocab_size: int
    largest_block: int | None = None
    outside_blocks: int | None = None
    block_bytes: float | None = None


class StepSize(NamedTuple):
    """Settings that determine the memory of a training step with all rows.

    Attributes:
        rank: Rank of the translators.
        seq_len: Tokens per sequence.
        positions_per_seq: Positions trained on in each.
        loss_block_mib: Budget of one block of logits.
        step_seqs: Sequences of one optimiser step in one process; micro-batches divide them.
        micro_batch_seqs: Sequences per forward pass; None: as many as fit.
        fp32_unembed: Whether the unembedding is held in fp32.
        graph: Whether the forward pass keeps what a backward pass through all blocks needs, and a Jacobian is summed
            for each row.
    """

    rank: int = 256
    seq_len: int = 512
    positions_per_seq: int = 16
    loss_block_mib: int = 256
    step_seqs: int = 32
    micro_batch_seqs: int | None = None
    fp32_unembed: Fp32Unembed = "auto"
    graph: bool = False


class MemoryParts(NamedTuple):
    """Bytes needed to fit a lens, by purpose.

    Attributes:
        weights: The frozen model; if sharded, the process's shard and the blocks that are unsharded at a time.
        head: The fp32 copy of the unembedding, if there is one; otherwise, without CUDA, the piece cast at a time.
        lens: Translators and bias-only lens in fp32, their gradients and AdamW's moments.
        activations: The forward pass of one micro-batch.
        residuals: Rows at the sampled positions, normed and translated, with gradients.
        loss: Blocks of logits, and the sums of the bias-only lens's loss.
        overhead: CUDA's context and workspaces.
    """

    weights: int
    head: int
    lens: int
    activations: int
    residuals: int
    loss: int
    overhead: int

    @property
    def total(self) -> int:
        """Total."""
        return sum(self)


def memory_parts(
    shape: ModelShape, kind: str, dtype: torch.dtype, step: StepSize, shards: int | None = None
) -> MemoryParts:
    """Estimate the memory to fit a lens on a model.

    Args:
        shape: The model's sizes.
        kind: ``cuda``, ``mps`` or ``cpu``.
        dtype: The model's number format.
        step: The training step; without ``micro_batch_seqs``, the default of the device is used.
        shards: Number of shards of the model's blocks; None: it is not sharded.
    """
    seqs = MICRO_BATCH_SEQS[kind] if step.micro_batch_seqs is None else step.micro_batch_seqs
    positions, rows = seqs * step.positions_per_seq, shape.num_blocks - 1
    numbers = rows * (2 * min(step.rank, shape.d_model) + 2) * shape.d_model  # U, V, c, and the bias-only lens's c
    activations = seqs * step.seq_len * ACTIVATIONS_PER_TOKEN * shape.d_model * dtype.itemsize
    if step.graph:
        numbers, activations = 0, activations * shape.num_blocks
    jacobians = JACOBIAN_COPIES * shape.num_blocks * shape.d_model**2 * 4 * step.graph
    # A small vocabulary fills no block.
    block = min(step.loss_block_mib * 2**20, positions * rows * shape.vocab_size * 4)
    return MemoryParts(
        weights=int(_weight_bytes(shape, dtype, shards) * WEIGHT_MARGIN),
        head=_head_bytes(shape, kind, dtype, step.fp32_unembed),
        lens=numbers * 4 * TRANSLATOR_COPIES + 2 * shape.d_model**2 * 4 + jacobians,  # and the two maps of the basis
        activations=activations,
        residuals=(rows + 1) * positions * shape.d_model * RESIDUAL_BYTES,
        loss=int(LOSS_BLOCKS * block) + BIAS_ONLY_SUMS * rows * shape.vocab_size * 4,
        overhead=CUDA_OVERHEAD if kind == "cuda" else 0,
    )


class StreamedParts(NamedTuple):
    """Bytes needed to fit a lens on a streamed model, by purpose.

    Attributes:
        blocks: Two blocks: the one that computes, and the next.
        outside: Parameters outside the blocks: embedding, final norm, unembedding.
        group: The residual stream of the group of micro-batches.
        beside: Everything other than weights that a resident model needs, as in ``MemoryParts``.
        kept: Residuals kept for the group, on the host.
        staging: On the host with CUDA, the page-locked memory that blocks are read into.
    """

    blocks: int
    outside: int
    group: int
    beside: int
    kept: int
    staging: int

    def on_device(self, kind: str) -> int:
        """Bytes on a device of this kind; on the CPU all of them."""
        return sum(self) - (self.on_host if kind != "cpu" else 0)

    @property
    def on_host(self) -> int:
        """Bytes on the host in addition to those on the device."""
        return self.kept + self.staging


def streamed_parts(
    shape: ModelShape, kind: str, dtype: torch.dtype, step: StepSize, group_tokens: int
) -> StreamedParts:
    """Memory to fit a lens on a model whose blocks are read from disk for each group of micro-batches.

    Args:
        shape: The model's sizes.
        kind: ``cuda`` or ``cpu``.
        dtype: The model's number format.
        step: The training step.
        group_tokens: Tokens of a group.
    """
    resident, size = memory_parts(shape, kind, dtype, step), dtype.itemsize
    block, outside = _largest_block(shape), _outside_blocks(shape)
    positions = -(-group_tokens // step.seq_len) * step.positions_per_seq
    return StreamedParts(
        blocks=int(2 * block * size * WEIGHT_MARGIN),
        outside=int(outside * size * WEIGHT_MARGIN),
        group=STREAM_COPIES * group_tokens * shape.d_model * size,
        beside=resident.total - resident.weights,
        kept=(shape.num_blocks + 1) * positions * shape.d_model * size,
        staging=int(2 * block * size * PINNED_MARGIN) if kind == "cuda" else 0,
    )


def _weight_bytes(shape: ModelShape, dtype: torch.dtype, shards: int | None) -> int:
    """Bytes of the weights that a process holds."""
    if shape.block_bytes is None:
        return _parameters_held(shape, shards) * dtype.itemsize
    outside = min(_outside_blocks(shape), shape.num_parameters)
    return outside * dtype.itemsize + int((shape.num_parameters - outside) * shape.block_bytes)


def _parameters_held(shape: ModelShape, shards: int | None) -> int:
    if shards is None:
        return shape.num_parameters
    outside = _outside_blocks(shape)
    return outside + -(-(shape.num_parameters - outside) // shards) + GATHERED_BLOCKS * _largest_block(shape)


def _largest_block(shape: ModelShape) -> int:
    return shape.num_parameters // shape.num_blocks if shape.largest_block is None else shape.largest_block


def _outside_blocks(shape: ModelShape) -> int:
    return 2 * shape.vocab_size * shape.d_model if shape.outside_blocks is None else shape.outside_blocks


def _head_bytes(shape: ModelShape, kind: str, dtype: torch.dtype, fp32: Fp32Unembed) -> int:
    """The fp32 copy of the unembedding; for one in half precision, the piece widened at a time (not on CUDA)."""
    copied = shape.vocab_size * shape.d_model * 4
    if dtype == torch.float32:
        return 0  # it is the model's own
    if unembedding_dtype(torch.device(kind), shape.vocab_size, dtype, fp32) == torch.float32:
        return copied
    return 0 if kind == "cuda" else min(copied, WIDENED_BYTES)


def gib(num_bytes: int) -> str:
    """A number of bytes in GiB, for messages."""
    gib = num_bytes / GIB
    return f"{gib:.0f} GiB" if gib >= 10 else f"{gib:.1f} GiB"
