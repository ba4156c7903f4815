"""Verifies the parts found in a model by forward passes on a few tokens, at every load of every model.

Six claims: (a) the output of block L is bitwise the input of block L+1, (b) row n is bitwise the input of the
final norm, (c) the model's modules give bitwise the model's logits, for the model's own row n and for rows of
other sizes and directions in its place, (d) the head in fp32 is within 1e-4 bits KL of the head in fp64, (e) the
numbers read from the norms reproduce the norm modules, (f) the body alone gives the rows of the whole model, and the
same at every position that comes before tokens that are changed: nothing is read from later tokens.

On (d): the head in half precision rounds its logits, and at ordinary logit sizes that rounding alone exceeds 1e-4 bits.
The reference for the head in fp32 is therefore the model's modules with the model's weights, widened without loss
and run in fp64; (c) ties those modules to the model. If the model itself runs in fp32, its own logits must meet
the same bound.

On (f): kernels that sum in no fixed order (a mixture of experts on CUDA) may round differently in the second run. Up to
the first row that differs, both runs have read the same bits, so one block's rounding bounds the difference there. It
may grow from block to block until it can no longer be distinguished from attention to later tokens, which changes what
the first blocks add by a tenth to a half.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.anatomy import Anatomy, exact_logits
from logos_pl.lm.finite import refuse_nonfinite
from logos_pl.lm.head_path import scale_and_cap
from logos_pl.lm.hooks import replacing
from logos_pl.lm.norms import NormWeights, apply_norm, identity_norm, norm_weights, widened
from logos_pl.lm.probing import PREFIX, last_call, probe_ids, run_traced, twin_ids, unsupported
from logos_pl.lm.trace import Call, record_calls, same_bits

FP32_BOUND_BITS = 1e-4
# Rows of the unembedding widened at a time: 2¹⁴ × 8192 × 8 bytes is 1 GiB.
VOCAB_CHUNK = 2**14
# Sizes of the rows put in place of row n: ordinary, tiny (ε shows) and large (a soft-cap shows).
PROBE_SIZES = (1.0, 1e-3, 30.0)
# Rounding within a block, in ε of the model's number format, as a share of what it adds; the sum is rounded once more.
BRANCH_ROUNDINGS = 8
# How much a block may amplify a difference in its input.
GROWTH = 2


Rows = list[Float[Tensor, "batch seq d_model"]]
"""Rows 0 … n of one forward pass."""


def verify(
    model: PreTrainedModel,
    anatomy: Anatomy,
    idle: Callable[[], AbstractContextManager[None]] = nullcontext,
    flipped: Callable[[Rows], Rows] | None = None,
) -> None:
    """Check all six claims.

    Args:
        model: The model.
        anatomy: Its parts.
        idle: A context in which its blocks need not compute, as their output is replaced.
        flipped: Maps the rows of ``twin_ids`` from the model's own code to those of the body on the flipped batch;
            None: the body is simply run.

    Raises:
        InputError: The first claim that fails, with the architecture's name.
    """
    blocks = anatomy.blocks
    parts = [part for part in (anatomy.final_norm, *(anatomy.next_norms or [])) if part is not None]
    watched = list({id(part): part for part in [*blocks, *parts]}.values())
    ids = twin_ids(model)
    calls, logits = run_traced(model, ids, watched)
    refuse_nonfinite(model, blocks, calls, logits)
    _check_stream(anatomy, calls)
    rows = _rows(anatomy, calls)
    _check_causality(anatomy, rows, _rows_of(anatomy, ids.flip(0)) if flipped is None else flipped(rows))
    h = last_call(calls, blocks[-1]).wrote
    _check_logits(anatomy, h, logits, "the model's own last row")
    probes = [_probe(anatomy, h, size) for size in PROBE_SIZES]
    for size, probe in zip(PROBE_SIZES, probes, strict=True):
        with idle():
            wanted = _logits_from(model, anatomy, probe)
        _check_logits(anatomy, probe, wanted, f"a last row of size {size:g}")
    norm = _described(anatomy, anatomy.final_norm)
    for row_norm in anatomy.next_norms or []:
        _described(anatomy, row_norm)
    _check_fp32(anatomy, norm, torch.cat([h, *probes]), logits)


def _check_stream(anatomy: Anatomy, calls: list[Call]) -> None:
    name = anatomy.architecture
    traced = [last_call(calls, block) for block in anatomy.blocks]
    shape = (2, 8, anatomy.d_model)
    for row, call in enumerate(traced, start=1):
        if tuple(call.wrote.shape) != shape or tuple(call.read.shape) != shape:
            reason = f"block {row} reads {list(call.read.shape)} and writes {list(call.wrote.shape)}, not {list(shape)}"
            raise unsupported(name, reason)
        for h in (call.read, call.wrote):
            if torch.promote_types(h.dtype, anatomy.stream_dtype) != anatomy.stream_dtype:
                reason = f"block {row} has numbers in {h.dtype}, which {anatomy.stream_dtype} does not hold"
                raise unsupported(name, reason)
    for row in range(1, len(traced)):
        if not same_bits(traced[row - 1].wrote, traced[row].read):
            reason = f"the output of block {row} is not the input of block {row + 1}"
            raise unsupported(name, reason, anatomy.lm_head.weight.dtype)
    if anatomy.final_norm is None:
        return
    if not any(c.module is anatomy.final_norm and same_bits(c.read, traced[-1].wrote) for c in calls):
        reason = "its final norm does not read the last block's output"
        raise unsupported(name, reason, anatomy.lm_head.weight.dtype)


def _check_causality(anatomy: Anatomy, rows: Rows, others: Rows) -> None:
    """Claim (f), from the rows of ``twin_ids`` and those of the flipped batch."""
    eps = torch.finfo(anatomy.lm_head.weight.dtype).eps
    before, allowed = torch.zeros(()), torch.zeros(())
    for row, (h, other) in enumerate(zip(_prefixes(rows), _prefixes(others), strict=True)):
        if not same_bits(h, other):
            own = h.norm(dim=-1) + BRANCH_ROUNDINGS * (h - before.to(h)).norm(dim=-1)
            allowed = GROWTH * allowed.to(h) + eps * own
            if bool(((h - other).norm(dim=-1) > allowed).any()):
                reason = f"row {row} depends on later tokens (bidirectional attention)"
                raise unsupported(anatomy.architecture, f"{reason}; use a causal language model")
        before = h


def _rows_of(anatomy: Anatomy, ids: Tensor) -> Rows:
    calls, _ = record_calls(lambda: anatomy.body(input_ids=ids, use_cache=False), anatomy.blocks)
    return _rows(anatomy, calls)


def _rows(anatomy: Anatomy, calls: list[Call]) -> Rows:
    traced = [last_call(calls, block) for block in anatomy.blocks]
    return [traced[0].read, *(call.wrote for call in traced)]


def _prefixes(rows: Rows) -> list[Float[Tensor, "batch prefix d_model"]]:
    """Every row at the positions of the twins' common prefix, in fp32."""
    return [h[:, :PREFIX].float() for h in rows]


def _check_logits(anatomy: Anatomy, h: Tensor, logits: Tensor, what: str) -> None:
    if not same_bits(exact_logits(anatomy, h.to(anatomy.stream_dtype)), logits):
        reason = "final norm, projection, output layer, scale and soft-cap do not give its logits bitwise"
        raise unsupported(anatomy.architecture, f"{reason} for {what}", anatomy.lm_head.weight.dtype)


def _described(anatomy: Anatomy, module: nn.Module | None) -> NormWeights:
    if module is None:
        return identity_norm(anatomy.d_model)
    try:
        return norm_weights(module, anatomy.d_model)
    except InputError as error:
        raise unsupported(anatomy.architecture, str(error).rstrip(".")) from error


def _probe(anatomy: Anatomy, h: Tensor, size: float) -> Float[Tensor, "batch seq d_model"]:
    """Rows unlike the model's own: random and, at odd positions, those of the unembedding, whose logits are large."""
    noise = torch.randn(h.shape, generator=torch.Generator("cpu").manual_seed(1), device="cpu") * size
    if anatomy.project is None:
        picked = torch.linspace(0, anatomy.vocab_size - 1, h.shape[1], device=anatomy.lm_head.weight.device).long()
        rows = anatomy.lm_head.weight.detach()[picked].float().cpu()
        noise[:, 1::2] = size * (rows / rows.std().clamp(min=1e-8))[1::2]
    return noise.to(device=h.device, dtype=h.dtype)


@torch.no_grad()
def _logits_from(model: PreTrainedModel, anatomy: Anatomy, probe: Tensor) -> Tensor:
    """The model's own logits when row n is replaced by ``probe``."""
    with replacing(anatomy.blocks[-1], probe):
        return model(input_ids=probe_ids(model, offset=1), use_cache=False).logits


@torch.no_grad()
def _check_fp32(anatomy: Anatomy, norm: NormWeights, h: Tensor, logits: Tensor) -> None:
    """Claim (d) for rows ``h``; the first of them are the model's own, which gave ``logits``."""
    # MPS has no fp64.
    device = torch.device("cpu") if h.device.type == "mps" else h.device
    h = h.to(device)
    x64 = h.double()
    if anatomy.final_norm is not None:
        x64 = widened(anatomy.final_norm, torch.float64).to(device)(x64).double()
    got = _decode(anatomy, apply_norm(h.float(), norm)).double()
    worst = _kl_bits(_decode(anatomy, x64), got)
    if logits.dtype == torch.float32:
        worst = max(worst, _kl_bits(logits.to(device).double(), got[: len(logits)]))
    if not worst <= FP32_BOUND_BITS:
        reason = f"its head decoded in fp32 is {worst:.2g} bits from the head in fp64, more than {FP32_BOUND_BITS:g}"
        raise unsupported(anatomy.architecture, reason)


def _decode(anatomy: Anatomy, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq vocab"]:
    """Logits in the dtype of ``x``, the unembedding widened piece by piece."""
    if anatomy.project is not None:
        x = linear(x, _as(anatomy.project.weight, x), _as(anatomy.project.bias, x))
    x = x / anatomy.head_divisor
    weight, bias = anatomy.lm_head.weight, anatomy.lm_head.bias
    pieces = []
    for start in range(0, weight.shape[0], VOCAB_CHUNK):
        part = slice(start, start + VOCAB_CHUNK)
        pieces.append(linear(x, _as(weight[part], x), None if bias is None else _as(bias[part], x)))
    logits = torch.cat(pieces, dim=-1)
    return scale_and_cap(logits, anatomy.logit_multiplier, anatomy.logit_divisor, anatomy.softcap)


def _as(tensor: Tensor | None, like: Tensor) -> Any:
    return None if tensor is None else tensor.detach().to(device=like.device, dtype=like.dtype)


def _kl_bits(wanted: Tensor, got: Tensor) -> float:
    log_p, log_q = (torch.log_softmax(z, dim=-1) for z in (wanted, got))
    return float((log_p.exp() * (log_p - log_q)).sum(dim=-1).max()) / math.log(2.0)
