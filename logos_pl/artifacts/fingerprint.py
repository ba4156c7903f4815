"""Fingerprint: a model's outputs on fixed tokens, to check that a lens is used with the model it was trained on.

Names and commits identify files, not results: a library that misreads a RoPE setting gives another model at the same
commit. Measured on trained Llama models of 5 and 8 blocks, fp16 and bf16 drift from fp32 by at most 7e-3; RoPE
frequencies or scalings wrong by a factor of 2 or more drift by 3e-2 to 4e-1.
"""

import math
import warnings
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.artifacts.provenance_schema import FINGERPRINT_TOKENS, Fingerprint
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.loaded_as import LoadedAs
from logos_pl.lm.residuals import residuals

NUM_POSITIONS = 8
NUM_LOGITS = 10
# Relative drift accepted silently, and with a warning.
SILENT_DRIFT = 1e-3
TOLERATED_DRIFT = 2e-2
# Relative difference for the same weights in one process, as some GPU kernels are not deterministic to the bit.
SAME_DRIFT = 1e-6
# Relative; half precision rounds frequencies by up to 4e-3, a wrong scaling changes some by half or more.
ROTARY_TOLERANCE = 1e-2


class ForwardPass(NamedTuple):
    """Results of a forward pass on the fixed tokens."""

    norms: Float[Tensor, "rows pos"]
    logits: Float[Tensor, "vocab"]


def fixed_tokens(vocab_size: int, num_tokens: int) -> Int[Tensor, "1 seq"]:
    """Fixed token sequence, which depends only on the size of the vocabulary.

    Source: Knuth's MMIX linear congruential generator, TAOCP vol. 2, §3.3.4; its high bits.
    """
    state, ids = vocab_size, []
    for _ in range(num_tokens):
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        ids.append((state >> 33) % vocab_size)
    return torch.tensor([ids])


def fingerprint(lm: FrozenLM, head: Head) -> Fingerprint:
    """Compute the fingerprint of a loaded model.

    Norms are stored at several positions rather than as a mean, since the first position of many models has a norm
    hundreds of times larger, which would dominate the mean.

    Raises:
        InputError: The outputs of the model are not finite.
    """
    num_tokens = FINGERPRINT_TOKENS if lm.context_length is None else min(FINGERPRINT_TOKENS, lm.context_length)
    norms, logits = _read(lm, head, num_tokens)
    if not bool(norms.isfinite().all()) or not bool(logits.isfinite().all()):
        raise InputError(
            f"{lm.model_id} in {_name(lm.dtype)} on {lm.device.type} gives numbers that are not finite: "
            "load it in bfloat16 or float32."
        )
    top = logits.topk(min(NUM_LOGITS, logits.numel()))
    return Fingerprint(
        head_sha256=head.sha256(),
        num_tokens=num_tokens,
        dtype=_name(lm.dtype),
        device=lm.device.type,
        residual_norms=norms.tolist(),
        top_ids=top.indices.tolist(),
        top_logits=top.values.tolist(),
        rotary=rotary_frequencies(lm),
        loaded_as=lm.loaded_as,
    )


def same_model(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether two fingerprints from one process belong to the same weights: head, rotary frequencies, norms, logits."""
    if (a.head_sha256, a.rotary, a.top_ids) != (b.head_sha256, b.rotary, b.top_ids):
        return False
    shapes = [[len(row) for row in mark.residual_norms] for mark in (a, b)]
    if shapes[0] != shapes[1]:
        return False
    ours, theirs = (
        torch.tensor([*(norm for row in mark.residual_norms for norm in row), *mark.top_logits], dtype=torch.float64)
        for mark in (a, b)
    )
    return torch.allclose(ours, theirs, rtol=SAME_DRIFT, atol=0)


def rotary_frequencies(lm: FrozenLM) -> list[float]:
    """Frequencies of every rotary embedding in the model, each followed by its attention scaling.

    Stored in addition to outputs, since a wrong scaling of low frequencies affects only contexts much longer than the
    fixed sequence.
    """
    found: list[float] = []
    for module in lm.model.modules():
        frequencies = getattr(module, "inv_freq", None)
        if isinstance(frequencies, torch.Tensor):
            found += [*frequencies.float().cpu().tolist(), float(getattr(module, "attention_scaling", 1.0))]
    return found


def check_fingerprint(recorded: Fingerprint, lm: FrozenLM, head: Head) -> None:
    """Compare the loaded model with the recorded one; warn of a drift that another dtype or device explains.

    Raises:
        InputError: Only one is quantised or adapted, or each in another way; the head or number of rows differs; or the
            drift exceeds rounding, in which case the message gives its size.
    """
    _refuse_other_weights(recorded, lm)
    heads_agree = head.sha256() == recorded.head_sha256
    # Another dtype rounds the same checkpoint differently; the hashes then differ and only the drift counts.
    if not heads_agree and recorded.dtype == _name(lm.dtype):
        raise InputError(
            f"The head of {lm.model_id} (final norm, unembedding, bias) differs from that of the lens: its hash is "
            f"{head.sha256()[:12]}, not {recorded.head_sha256[:12]}: load the model the lens was trained on."
        )
    _refuse_other_rotary(recorded, lm)
    drift = _drift(recorded, lm, head)
    where = f"({recorded.dtype} on {recorded.device} then, {_name(lm.dtype)} on {lm.device.type} now)"
    if not drift <= TOLERATED_DRIFT:  # NaN is refused too
        raise InputError(
            f"{lm.model_id} gives other results than when the lens was trained: residual norms or logits on a "
            f"fixed sequence drift by {drift:.1e} {where}, but at most {TOLERATED_DRIFT:.0e} is allowed: check the "
            "versions of transformers and of the model's configuration (RoPE first), or fit the lens again."
        )
    if not heads_agree or drift > SILENT_DRIFT:
        doubt = "" if heads_agree else " The hash of its head differs, which the different dtype may explain."
        warnings.warn(
            f"{lm.model_id} drifts by {drift:.1e} from the numbers the lens was trained on {where}; "
            f"up to {TOLERATED_DRIFT:.0e} is tolerated.{doubt}",
            stacklevel=3,
        )


class Movement(NamedTuple):
    """How far a model is from a recorded one; drifts are relative.

    Attributes:
        same_head: Whether final norm, unembedding and bias are the recorded ones.
        same_rotary: Whether the rotary frequencies are the recorded ones.
        norm_drift: Drift of the residual norms at the row where it is largest, mean over positions of the sequence.
        norm_row: That row.
        norm_drift_by_row: The same for every row 0 … n.
        logit_drift: Largest difference from the recorded logits, relative to the largest of them.
        top_kept: How many of the recorded likeliest tokens are still among as many likeliest tokens.
        top_recorded: Number of recorded tokens.
    """

    same_head: bool
    same_rotary: bool
    norm_drift: float
    norm_row: int
    norm_drift_by_row: list[float]
    logit_drift: float
    top_kept: int
    top_recorded: int


def movement(recorded: Fingerprint, lm: FrozenLM, head: Head) -> Movement:
    """How far a different model is from the recorded one.

    The fixed sequence depends on the size of the vocabulary: if tokens were added, the drift is meaningless.

    Raises:
        InputError: The number of rows, or the vocabulary or context that the record needs, differs.
    """
    _refuse_other_shape(recorded, lm)
    norms = torch.tensor(recorded.residual_norms, dtype=torch.float64)
    logits = torch.tensor(recorded.top_logits, dtype=torch.float64)
    present = _read(lm, head, recorded.num_tokens)
    by_row = ((present.norms - norms).abs() / norms.clamp(min=1e-12)).mean(dim=1)
    by_logit = (present.logits[recorded.top_ids] - logits).abs().max() / logits.abs().max().clamp(min=1e-12)
    if not bool(by_row.isfinite().all()) or not bool(by_logit.isfinite()):
        raise InputError(f"{lm.model_id} gives numbers that are not finite: load it in bfloat16 or float32.")
    top = set(present.logits.topk(len(recorded.top_ids)).indices.tolist())
    return Movement(
        same_head=head.sha256() == recorded.head_sha256,
        same_rotary=rotary_frequencies(lm) == recorded.rotary,
        norm_drift=float(by_row.max()),
        norm_row=int(by_row.argmax()),
        norm_drift_by_row=by_row.tolist(),
        logit_drift=float(by_logit),
        top_kept=len(top & set(recorded.top_ids)),
        top_recorded=len(recorded.top_ids),
    )


def _refuse_other_weights(recorded: Fingerprint, lm: FrozenLM) -> None:
    """Refuse a quantised or adapted model for a plain model's lens, and vice versa, however small the drift."""
    then, now = recorded.loaded_as or LoadedAs(), lm.loaded_as or LoadedAs()
    if not now.same_numbers(then):
        raise InputError(
            f"The lens was fitted on {then.words() or 'plain weights'}, but {lm.model_id} is {now.words() or 'plain'}: "
            "load the model the lens was trained on, or fit a lens for this one."
        )


def _drift(recorded: Fingerprint, lm: FrozenLM, head: Head) -> float:
    """Relative drift: the maximum over the rows' norms (each a mean over positions) and the logits."""
    _refuse_other_shape(recorded, lm)
    norms = torch.tensor(recorded.residual_norms, dtype=torch.float64)
    logits = torch.tensor(recorded.top_logits, dtype=torch.float64)
    present = _read(lm, head, recorded.num_tokens)
    by_norm = ((present.norms - norms).abs() / norms.clamp(min=1e-12)).mean(dim=1).max()
    by_logit = (present.logits[recorded.top_ids] - logits).abs().max() / logits.abs().max().clamp(min=1e-12)
    drifts = float(by_norm), float(by_logit)
    return math.nan if any(map(math.isnan, drifts)) else max(drifts)


def _refuse_other_rotary(recorded: Fingerprint, lm: FrozenLM) -> None:
    present = rotary_frequencies(lm)
    same_length = len(present) == len(recorded.rotary)
    apart = [
        abs(now - then) > ROTARY_TOLERANCE * abs(then) for now, then in zip(present, recorded.rotary, strict=False)
    ]
    if not same_length or any(apart):
        raise InputError(
            f"{lm.model_id} does not have the rotary frequencies (RoPE) of the model the lens was trained on: "
            f"{sum(apart)} of {len(recorded.rotary)} differ: check the versions of transformers and of the model's "
            "configuration, or fit the lens again."
        )


def _refuse_other_shape(recorded: Fingerprint, lm: FrozenLM) -> None:
    columns = [len(row) for row in recorded.residual_norms]
    rows_fit = columns == [len(_positions(recorded.num_tokens))] * (lm.num_blocks + 1)
    ids_fit = len(recorded.top_logits) == len(recorded.top_ids) > 0
    ids_fit = ids_fit and all(0 <= token < lm.vocab_size for token in recorded.top_ids)
    if rows_fit and ids_fit and recorded.num_tokens <= (lm.context_length or recorded.num_tokens):
        return
    raise InputError(
        f"The lens's fingerprint is from a model with {len(columns) - 1} blocks and a context of {recorded.num_tokens} "
        f"tokens or more, which {lm.model_id} ({lm.num_blocks} blocks, a context of {lm.context_length}, "
        f"{lm.vocab_size} tokens in its vocabulary) is not: load the model the lens was trained on."
    )


@torch.no_grad()
def _read(lm: FrozenLM, head: Head, num_tokens: int) -> ForwardPass:
    ids = fixed_tokens(lm.vocab_size, num_tokens)
    h = residuals(lm, ids, torch.tensor([_positions(num_tokens)]), range(lm.num_blocks + 1))[:, 0]
    logits = head.logits(head.normalise(h[-1:, -1:], [lm.num_blocks]))[0, 0]
    # Cast on the CPU, as not every device has float64.
    return ForwardPass(h.cpu().double().norm(dim=-1), logits.cpu().double())


def _positions(num_tokens: int) -> list[int]:
    """Evenly spaced positions, including the last."""
    count = min(NUM_POSITIONS, num_tokens)
    return [(i + 1) * num_tokens // count - 1 for i in range(count)]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
