"""Beginning of a report: what was asked, where the answer appears, how sure that is, and what to distrust."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from logos_pl.io.markdown import escaped, number, table
from logos_pl.kinds.registry import compared, kind_of
from logos_pl.sweeps.report_depth import finite_median
from logos_pl.sweeps.report_input import ReportInput

FEW_PROMPTS = 20
"""Number of prompts below which the report warns: one prompt then moves a share by more than 5%."""

BRIEF_MILESTONES = {
    "first_rank_le_10": "answer at rank ≤ 10",
    "first_rank_le_1": "answer at rank 1",
    "first_kl_below_1.0": "KL < 1 bit",
}
"""Milestones in the summary, with their column headings; KL is KL(row ‖ final)."""


def in_short(e: ReportInput) -> str:
    """The summary: a few sentences, a table with a line per lens, and the reservations."""
    if not e.swept.prompts:
        return "No prompt was read.\n"
    doubts = "".join(f"- {doubt}\n" for doubt in reservations(e)) or "- No check found a problem.\n"
    return (
        f"{_asked(e)}\n\n{_answered(e)}\n\n"
        f"First rows, as the median over prompts (with range, and by how many it is reached):\n\n{_where(e)}\n"
        f"{_earlier(e)}**What to distrust**\n\n{doubts}"
    )


def _asked(e: ReportInput) -> str:
    status = Counter(answer["status"] for answer in e.swept.gold_answer)
    lenses = ", ".join(kind_of(lens).label for lens in e.swept.lenses)
    return (
        f"**Asked:** {counted(len(e.swept.prompts), 'prompt')} {e.cite('run.num_prompts')}, {status['resolved']} with "
        f"an expected answer {e.cite('gold_answer', 'status')}, read at rows 0 to {e.num_blocks} "
        f"{e.cite('model_stats.num_blocks')} with {lenses} {e.cite('run.lenses')}."
    )


def _answered(e: ReportInput) -> str:
    finals = [final for final in e.swept.final_prediction if final["answer_rank"] is not None]
    if not finals:
        return "**Answered:** no answer can be ranked: no prompt has an expected answer that resolves to tokens."
    first = sum(final["answer_rank"] == 1 for final in finals)
    p = sorted(final["p_answer"] for final in finals if math.isfinite(final["p_answer"]))
    sure = (
        f"; its probability is {number(p[0])} to {number(p[-1])} {e.cite('final_prediction', 'p_answer')}" if p else ""
    )
    return (
        f"**Answered:** the model itself puts the answer first after {first} of {len(finals)} "
        f"{e.cite('final_prediction', 'answer_rank')}{sure}."
    )


def _where(e: ReportInput) -> str:
    lines = []
    for lens in e.swept.lenses:
        of = e.milestones(lens)
        cells = [_spread([at[key]["row"] for at in of], e.num_blocks) for key in BRIEF_MILESTONES]
        lines.append([kind_of(lens).label, *cells, e.cite("diagnostics", f"milestones.{lens}")])
    return table(["lens", *BRIEF_MILESTONES.values(), "source"], lines)


def _spread(rows: Sequence[int | None], num_blocks: int) -> str:
    """Median with its share of the depth, range and count, such as `20 (67%; 18–24; 11 of 12)`."""
    there = [row for row in rows if row is not None]
    middle, count = finite_median(there)
    if middle is None:
        return f"never (0 of {len(rows)})"
    extent = "" if count == 1 else f"{min(there)}–{max(there)}; "
    return f"{middle:g} ({middle / num_blocks:.0%}; {extent}{count} of {len(rows)})"


def _earlier(e: ReportInput) -> str:
    """How much earlier each lens has the answer at rank 1 than the norm lens, one sentence each."""
    sentences = []
    for kind in compared():
        gains = [prompt.gains[kind.name].earlier_rows[1] for prompt in e.swept.summaries if kind.name in prompt.gains]
        middle, count = finite_median(gains)
        if middle is None:
            continue
        order = "earlier" if middle > 0 else "later"
        distance = "at the same row as" if middle == 0 else f"{counted(abs(middle), 'row')} {order} than"
        where = e.cite("diagnostics", f"milestones.{kind.name}", "milestones.norm")
        sentences.append(
            f"The {kind.label} has the answer at rank 1 {distance} the norm lens, in the median over "
            f"{counted(count, 'prompt')} after which the model itself does {where}."
        )
    return "".join(f"{sentence}\n\n" for sentence in sentences)


def reservations(e: ReportInput) -> Iterator[str]:
    """Reasons not to take the numbers at face value, one sentence each."""
    yield from _about_prompts(e)
    yield from _about_lenses(e)
    yield from _about_checks(e)


def _about_prompts(e: ReportInput) -> Iterator[str]:
    if len(e.swept.prompts) < FEW_PROMPTS:
        yield f"Few prompts: with {len(e.swept.prompts)}, medians and shares are rough {e.cite('run.num_prompts')}."
    unresolved = sum(answer["status"] == "unresolved" for answer in e.swept.gold_answer)
    if unresolved:
        yield (
            f"{counted(unresolved, 'answer')} could not be resolved to tokens: left out of every count "
            f"{e.cite('gold_answer', 'status')}."
        )
    ranks = [final["answer_rank"] for final in e.swept.final_prediction if final["answer_rank"] is not None]
    wrong = sum(rank > 1 for rank in ranks)
    if wrong:
        yield (
            f"After {wrong} of {len(ranks)} prompts the model itself does not put the answer first: do not "
            f"expect any row to {e.cite('final_prediction', 'answer_rank')}."
        )


def _about_lenses(e: ReportInput) -> Iterator[str]:
    for kind in compared():
        if kind.accepted is not None and kind.name in e.swept.lenses and e.preferred_lens != kind.name:
            yield (
                f"The {kind.label} has not passed all gates, or was never tested (`logos-pl test`): where it differs "
                f"from the norm lens, the difference may come from the lens {e.cite('run.preferred_lens')}."
            )
    for lens, transfer in e.transfers.items():
        kind = kind_of(lens)
        sentence = escaped(transfer.sentence(kind.label))
        yield f"{sentence[0].upper()}{sentence[1:]} {e.cite(f'{kind.section.key}.transfer')}."
    for lens in e.swept.lenses:
        of = e.milestones(lens)
        copied = sum(at["L_copy"]["row"] is not None for at in of)
        if copied:
            yield (
                f"Under the {kind_of(lens).label}, {copied} of {counted(len(of), 'prompt')} have a row that copies the "
                f"prompt {e.cite('diagnostics', f'milestones.{lens}.L_copy')}."
            )


def _about_checks(e: ReportInput) -> Iterator[str]:
    diagnostics: list[dict[str, Any]] = list(e.swept.diagnostics)
    of = f"of {len(diagnostics)}"
    risk = Counter(diagnostic["raw_versus_norm"]["lens_artifact_risk"] for diagnostic in diagnostics)
    if risk["high"]:
        yield (
            f"After {risk['high']} {of} prompts the norm lens reads differently without its norm: what it shows may be "
            f"an artefact {e.cite('diagnostics', 'raw_versus_norm.lens_artifact_risk')}."
        )
    warned = sum(diagnostic["last_row"]["warn_high_last_layer_kl"] for diagnostic in diagnostics)
    if warned:
        yield (
            f"After {warned} {of} prompts the last row is not the model's own output: head or norm of the lens may be "
            f"wrong {e.cite('diagnostics', 'last_row.warn_high_last_layer_kl')}."
        )
    broken = sum(bool(diagnostic["nonfinite"]) for diagnostic in diagnostics)
    if broken:
        yield f"After {broken} {of} prompts some logits are not finite {e.cite('diagnostics', 'nonfinite')}."


def counted(count: float, noun: str) -> str:
    """Number and noun, such as `1 prompt`, `2 prompts`."""
    return f"{count:g} {noun}" + ("" if count == 1 else "s")
