"""Figures of several revisions of a model, and the training steps in their names."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from logos_pl.compare.revision_module import MILESTONES, SETTLED, RevisionSamples
from logos_pl.functional.bootstrap import Interval, bootstrap_interval

STEP = re.compile(r"(?:step|checkpoint|ckpt|iter)s?[-_]?(\d{1,15})(?!\d)", re.IGNORECASE)
"""A training step in the name of a revision or a folder, such as step1000 or checkpoint-500."""

QUANTITIES = ("kl_from_final_bits", "kl_to_final_bits", "top1_agree_frac")


class Reached(NamedTuple):
    """A milestone over positions or facts.

    Attributes:
        row: Mean of its row where it is reached, with a 95% interval; None if it never is.
        reached_frac: Share of positions or facts at which it is.
    """

    row: Interval | None
    reached_frac: float


class Revision(NamedTuple):
    """Figures of one revision.

    Attributes:
        name: Name of the model in results, with its revision.
        model_id: Hub id or folder name.
        model_commit: Its commit.
        lens: Origin of the lens, as plain values.
        num_blocks: Number n of blocks.
        rows: `QUANTITIES` by row that the lens reads.
        inner: Their means over the rows between the first and the last; None if there is none.
        entropy_bits: Entropy of the model's final distribution.
        text: Milestones of the model's own top-1 token on held-out text.
        answers: Milestones of the facts' answers; empty without facts.
        num_sequences: Number of sequences of text.
        num_positions: Number of positions.
        num_facts: Number of facts with a resolved answer.
        num_known: Number of them that the model itself answers, at rank 1.
    """

    name: str
    model_id: str
    model_commit: str
    lens: dict[str, Any]
    num_blocks: int
    rows: dict[int, dict[str, Interval]]
    inner: dict[str, Interval] | None
    entropy_bits: Interval
    text: dict[str, Reached]
    answers: dict[str, Reached]
    num_sequences: int
    num_positions: int
    num_facts: int
    num_known: int


class Model(NamedTuple):
    """The model of a revision, with the fields of the same names in `Revision`."""

    name: str
    model_id: str
    model_commit: str
    num_blocks: int


def measure_revision(samples: RevisionSamples, model: Model, lens: dict[str, Any]) -> Revision:
    """Means with intervals; whole sequences are resampled, the same ones for every row and revision.

    Args:
        samples: Readings of one revision.
        model: The revision.
        lens: Origin of the lens.
    """
    values = [samples.kl_from_final_bits, samples.kl_to_final_bits, samples.top1_agree]
    kinds = dict(zip(QUANTITIES, (value.double() for value in values), strict=True))
    clusters = samples.sequences
    rows = {
        row: {name: _mean(of[number], clusters) for name, of in kinds.items()}
        for number, row in enumerate(samples.rows)
    }
    inner = [number for number, row in enumerate(samples.rows[:-1]) if row > 0]
    ranks = samples.answer_ranks
    return Revision(
        name=model.name,
        model_id=model.model_id,
        model_commit=model.model_commit,
        lens=lens,
        num_blocks=model.num_blocks,
        rows=rows,
        inner={name: _mean(of[inner].mean(0), clusters) for name, of in kinds.items()} if inner else None,
        entropy_bits=_mean(samples.entropy_bits.double(), clusters),
        text={name: _reached(of, clusters) for name, of in samples.text.items()},
        answers={name: _reached(of, None) for name, of in samples.answers.items()},
        num_sequences=len(clusters.unique()),
        num_positions=len(clusters),
        num_facts=len(ranks),
        num_known=int((ranks == 1).sum()),
    )


def _mean(values: Tensor, clusters: Tensor | None) -> Interval:
    found = bootstrap_interval(values, "mean", clusters=clusters)
    assert found is not None, "there is a position"
    return found


def _reached(rows: Tensor, clusters: Tensor | None) -> Reached:
    there = rows >= 0
    if not bool(there.any()):
        return Reached(None, 0.0)
    found = _mean(rows[there].double(), None if clusters is None else clusters[there])
    return Reached(found, float(there.double().mean()))


def step_of(name: str) -> int | None:
    """Training step in the name of a revision, or of a model without one; None if there is none."""
    _, at, revision = name.partition("@")
    found = STEP.findall(revision if at else name)
    return int(found[-1]) if found else None


def steps_of(names: Sequence[str]) -> list[int] | None:
    """Training steps of all revisions; None if one is missing or two are equal; the order given then counts."""
    steps = [step for step in map(step_of, names) if step is not None]
    return steps if len(steps) == len(set(steps)) == len(names) else None


def to_plain(of: Revision) -> dict[str, Any]:
    """A revision as plain values."""
    plain = of._asdict()
    plain["rows"] = {str(row): _plain(values) for row, values in of.rows.items()}
    plain["inner"] = None if of.inner is None else _plain(of.inner)
    plain["entropy_bits"] = of.entropy_bits._asdict()
    for part in ("text", "answers"):
        plain[f"{part}_milestones"] = {name: _with_depth(at, of.num_blocks) for name, at in plain.pop(part).items()}
    return plain


def _plain(values: dict[str, Interval]) -> dict[str, Any]:
    return {name: found._asdict() for name, found in values.items()}


def _with_depth(at: Reached, num_blocks: int) -> dict[str, Any]:
    row = None if at.row is None else at.row._asdict()
    frac = None if at.row is None else at.row.estimate / num_blocks
    return {"row": row, "frac": frac, "reached_frac": at.reached_frac}


def milestone_lines(of: Revision) -> list[tuple[str, str, Reached]]:
    """Where it was read, name and figures of every milestone, in order."""
    text = [("text", name, of.text[name]) for name in (SETTLED, *MILESTONES)]
    return text + [("answers", name, of.answers[name]) for name in MILESTONES if name in of.answers]
