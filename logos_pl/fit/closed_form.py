"""Closed-form start of a model: streams moments over the opening text and solves for the translators.

The last few of the run's first sequences are set aside: they select the ridge of each row and give the Fisher
information. Reading does not move the data cursor, so that the same text is trained on afterwards.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.agreement import together
from logos_pl.errors import RunError
from logos_pl.functional.blocks import spans
from logos_pl.functional.closed_form import (
    SHRINKAGES,
    AffineStart,
    closed_form,
    held_out_errors,
    metric_root,
    random_factors,
    row_of,
    scale_of,
)
from logos_pl.functional.fisher import fisher_metric
from logos_pl.functional.moments import Moments, MomentStream, reduce_moments
from logos_pl.functional.positions import FIRST_SETTLED_POSITION
from logos_pl.functional.training_basis import TrainingBasis, training_basis
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request, read_in_groups

AllSum = Callable[[Tensor], Tensor]
HELD_OUT_POSITIONS = 2048
"""Positions that select the ridge and give the Fisher information, over all processes."""
_PASS_BYTES = 2**30
_BYTES_PER_NUMBER = 14  # one residual in half precision, three copies in fp32


class OpeningText(NamedTuple):
    """A micro-batch of the run's first sequences.

    Attributes:
        input_ids: Packed tokens.
        set_aside: Mask of the sequences that select the ridge.
    """

    input_ids: Int[Tensor, "batch seq"]
    set_aside: list[bool]


class ClosedFormStart(NamedTuple):
    """Result of the closed-form start; counts are over all processes.

    Attributes:
        tuned: Initial translators of the tuned lens.
        bias_only: Initial values of the bias-only lens.
        basis: Basis in which the tuned lens is trained.
        sequences: Sequences read, including those set aside.
        tokens: Tokens in these sequences.
        positions: Positions over which moments were taken.
        shrinkage: Ridge of each row.
    """

    tuned: AffineStart
    bias_only: AffineStart
    basis: TrainingBasis
    sequences: int
    tokens: int
    positions: int
    shrinkage: list[float]


class StartRecord(NamedTuple):
    """Statistics of the closed-form start for the provenance; see ``ClosedFormStart``."""

    sequences: int
    tokens: int
    positions: int
    shrinkage: list[float]


class Opening(NamedTuple):
    """Statistics of some rows in one process: moments, and the residuals of the positions set aside."""

    moments: Moments
    x: Float[Tensor, "rows pos d_model"]
    y: Float[Tensor, "pos d_model"]
    sequences: int
    tokens: int


def closed_form_start(
    lm: FrozenLM,
    head: Head,
    text: Callable[[], Iterable[OpeningText]],
    rank: int,
    *,
    num_set_aside: int,
    temperature: bool = True,
    seed: int = 316,
    rows_per_pass: int | None = None,
    block_bytes: int = 2**28,
    all_sum: AllSum = lambda tensor: tensor,
    solved: Callable[[], None] = lambda: None,
) -> ClosedFormStart:
    """Closed-form translators of the tuned lens and of the bias-only lens. Source: docs/method.md §2.2.

    Args:
        lm: The frozen model.
        head: Its head, with the decoding norm of the lens.
        text: Returns this process's share of the opening text, the same at each call.
        rank: Rank of the translators.
        num_set_aside: Sequences set aside, over all processes.
        temperature: Whether the lens has temperatures.
        seed: Seed of the random factors with which U and V are aligned.
        rows_per_pass: Rows whose moments are held in memory at once; the text is read once per group of rows. None:
            all rows in one pass.
        block_bytes: Upper bound on one block of logits, in bytes.
        all_sum: Sums an fp64 tensor over processes; every process must call `closed_form_start`.
        solved: Called after each solution, `num_solutions` times in every process.

    Raises:
        RunError: The residual stream has non-finite values or no variance; the message names the rows.
    """
    inner = list(range(1, lm.num_blocks))
    parts: dict[int, list[AffineStart]] = {rank: [], 0: []}
    shrinkage: list[float] = []
    covariance = torch.zeros(lm.d_model, lm.d_model, dtype=torch.float64)
    for rows in (inner[part] for part in spans(len(inner), rows_per_pass or len(inner))):
        opening = _read(lm, head, text(), rows, num_set_aside)
        _refuse_nonfinite(opening, [*rows, lm.num_blocks], all_sum)
        moments = reduce_moments(opening.moments, all_sum)
        covariance += moments.xx.sum(dim=0)  # over all rows, up to a factor
        if not shrinkage:
            fisher = _fisher(head, opening.y, block_bytes, all_sum)
            root = metric_root(fisher)
        ridges = _shrinkages(opening, moments, rows, root, temperature, all_sum, solved)
        for k, found in parts.items():
            like = (found[-1].U[-1], found[-1].V[-1]) if found else random_factors(lm.d_model, k, seed)
            found.append(closed_form(moments, root, k, ridges, like=like, temperature=temperature, solved=solved))
        shrinkage += ridges
    sequences, tokens = all_sum(torch.tensor([opening.sequences, opening.tokens], dtype=torch.float64)).tolist()
    tuned, bias_only = (AffineStart(*map(torch.cat, zip(*parts[k], strict=True))) for k in (rank, 0))
    basis = training_basis(covariance, fisher)
    return ClosedFormStart(tuned, bias_only, basis, int(sequences), int(tokens), moments.num_pos, shrinkage)


def num_solutions(rows: int, rank: int) -> int:
    """Number of solutions of a start: for every row the ridge, the tuned lens and the bias-only lens."""
    return rows * (1 + len({rank, 0}))


def _read(lm: FrozenLM, head: Head, text: Iterable[OpeningText], rows: list[int], num_set_aside: int) -> Opening:
    """Moments over the settled positions of most sequences, and residuals of some positions of those set aside."""
    stream = MomentStream(len(rows), lm.d_model)
    kept: list[Tensor] = []
    sequences = tokens = 0
    rows = [*rows, lm.num_blocks]
    pieces = (piece for batch in text for piece in _pieces(lm, batch, rows, num_set_aside))
    for (is_aside, request), found in read_in_groups(lm, pieces, lambda piece: piece[1]):
        x = head.normalise(found.rows.flatten(1, 2), rows)
        if is_aside:
            kept.append(x.cpu())
        else:
            stream.add(x[:-1], x[-1])
        sequences += len(request.input_ids)
        tokens += request.input_ids.numel()
    held_out = torch.cat(kept, dim=1)
    return Opening(stream.moments(), held_out[:-1], held_out[-1], sequences, tokens)


def settled_positions(seq_len: int) -> Int[Tensor, "pos"]:
    """Positions without the first few, whose residuals are atypical; all positions of very short sequences."""
    return torch.arange(FIRST_SETTLED_POSITION if seq_len > 2 * FIRST_SETTLED_POSITION else 0, seq_len)


def _pieces(lm: FrozenLM, batch: OpeningText, rows: list[int], num_set_aside: int) -> Iterator[tuple[bool, Request]]:
    """Yield a few sequences at a time, first those for the moments, then those set aside, each with its request."""
    aside = torch.tensor(batch.set_aside)
    every = settled_positions(batch.input_ids.shape[1])
    some = every[:: max(1, len(every) * num_set_aside // HELD_OUT_POSITIONS)]
    for is_aside, input_ids, positions in (
        (False, batch.input_ids[~aside], every),
        (True, batch.input_ids[aside], some),
    ):
        sequence_bytes = len(rows) * len(positions) * lm.d_model * _BYTES_PER_NUMBER
        for part in spans(len(input_ids), max(1, _PASS_BYTES // sequence_bytes)):
            ids = input_ids[part]
            yield is_aside, Request(ids, positions.expand(len(ids), -1), rows)


@together
def _refuse_nonfinite(opening: Opening, rows: list[int], all_sum: AllSum) -> None:
    """Raise in every process if one has read non-finite values; otherwise the others would wait for it."""
    finite = opening.moments.xx.isfinite().flatten(1).all(1) & opening.x.isfinite().flatten(1).all(1)
    last = opening.moments.yy.isfinite().all() & opening.y.isfinite().all()
    found = all_sum(torch.cat([~finite, ~last[None]]).double()).tolist()
    broken = [row for row, processes in zip(rows, found, strict=True) if processes]
    if broken:
        raise RunError(
            f"The residual stream has non-finite values at rows {broken}: run the model in float32 or "
            "bfloat16 (--model.dtype)."
        )


def _fisher(head: Head, y: Tensor, block_bytes: int, all_sum: AllSum) -> Tensor:
    """Fisher information with respect to normalised residuals, on the device used for solving."""
    own = fisher_metric(head.project(y.to(head.device)), head.unembedding, block_bytes=block_bytes)
    if head.projection is not None:
        weight = head.projection[0].cpu().double()
        own = weight.T @ own @ weight
    # MPS has no fp64.
    device = head.device if head.device.type == "cuda" else torch.device("cpu")
    return all_sum(own).to(device)


def _shrinkages(
    opening: Opening,
    moments: Moments,
    rows: list[int],
    root: Tensor,
    temperature: bool,
    all_sum: AllSum,
    solved: Callable[[], None],
) -> list[float]:
    """Ridge of each row with the smallest error on the positions set aside.

    Raises:
        RunError: No candidate can be solved at some row.
    """
    errors = []
    y = opening.y.to(root)
    for slot, x in enumerate(opening.x):
        row = row_of(moments, slot, root.device)
        scale = scale_of(row, root) if temperature else 1.0
        errors.append(held_out_errors(row, scale, root, x.to(root), y).cpu())
        solved()
    least, best = all_sum(torch.stack(errors)).min(dim=1)
    unsolved = [row for row, error in zip(rows, least.isfinite().tolist(), strict=True) if not error]
    if unsolved:
        raise RunError(
            f"The opening text's residual stream does not vary enough for a closed-form start, at rows {unsolved}: "
            "give more or other text, or start at random (--model.init random)."
        )
    return [SHRINKAGES[index] for index in best.tolist()]
