"""Comparison of several models: `evaluation-cross-models.md`, with medians over each model's prompts."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from logos_pl.io.markdown import cite, code, escaped, number, table, with_footnotes
from logos_pl.kinds.registry import compared, kind_of
from logos_pl.sweeps.document_summaries import MEASURES, depth_rows
from logos_pl.sweeps.report_brief import reservations
from logos_pl.sweeps.report_depth import against_norm, depth_medians, finite_median, gain_heading, next_token_file
from logos_pl.sweeps.report_input import REPORTED_MILESTONES, ReportInput

HOW_TO_READ = (
    "Medians are over all prompts of a model with a finite value, including controls and prompts without filler; the "
    "number in brackets is how many. Milestones are fractions of the number of blocks. A column heading in code is the "
    "name of the column or key in the file and at the place given in the line's footnote; a list without an index "
    "stands for all its entries."
)


def cross_model_report(sweeps: Sequence[ReportInput]) -> str:
    """Return the text of `evaluation-cross-models.md`; its sections are always the same.

    Args:
        sweeps: Input by model, in the order of the lines.
    """
    sections: dict[str, Callable[[Sequence[ReportInput]], str]] = {
        "In short": _in_short,
        "Which models were read?": _models,
        "What does each model answer?": _final,
        "Where does the answer appear?": _milestones,
        "How close is each row to the model's output?": _depth,
        **{gain_heading(kind): partial(_against_norm, lens=kind.name) for kind in compared()},
        "What do the checks say?": _checks,
    }
    parts = [f"## {heading}\n\n{section(sweeps)}" for heading, section in sections.items()]
    return with_footnotes(
        "\n".join(["# Evaluation across models\n", *parts, f"## How to read the tables\n\n{HOW_TO_READ}\n"])
    )


def _in_short(sweeps: Sequence[ReportInput]) -> str:
    """A line per model and lens, ordered by the depth at which the answer first has rank 1, and what to distrust."""
    lines = [(depth, cells) for e in sweeps for lens in e.swept.lenses for depth, cells in [_brief_line(e, lens)]]
    lines.sort(key=lambda line: math.inf if line[0] is None else line[0])
    doubts = [f"- {escaped(e.model_id)}: {doubt}\n" for e in sweeps for doubt in reservations(e)]
    header = ["model", "lens", "answer first at depth", "prompts", "final rank of the answer is 1", "source"]
    return (
        "Depth at which a lens first has the answer at rank 1, as a fraction of the blocks, earliest first; medians "
        "over the prompts in which it does.\n\n"
        + table(header, [cells for _, cells in lines])
        + "\n**What to distrust**\n\n"
        + ("".join(doubts) or "- No check found a problem.\n")
    )


def _brief_line(e: ReportInput, lens: str) -> tuple[float | None, list[str]]:
    of = e.milestones(lens)
    depth, count = finite_median([at["first_rank_le_1"]["frac"] for at in of])
    ranks = [final["answer_rank"] for final in e.swept.final_prediction if final["answer_rank"] is not None]
    where = e.cite("diagnostics", f"milestones.{lens}.first_rank_le_1.frac") + e.cite("final_prediction", "answer_rank")
    name = [escaped(e.model_id), kind_of(lens).label]
    return depth, [*name, number(depth), f"{count} of {len(of)}", f"{ranks.count(1)} of {len(ranks)}", where]


def _models(sweeps: Sequence[ReportInput]) -> str:
    rows = [
        [
            escaped(e.model_id), str(e.num_blocks), ", ".join(e.swept.lenses) or "–",
            str(len(e.swept.prompts)), e.cite("model_stats.num_blocks, run.lenses, run.num_prompts"),
        ]
        for e in sweeps
    ]  # fmt: skip
    return table(["model", "`num_blocks`", "`lenses`", "`num_prompts`", "source"], rows)


def _final(sweeps: Sequence[ReportInput]) -> str:
    rows = []
    for e in sweeps:
        status = Counter(answer["status"] for answer in e.swept.gold_answer)
        finals = list(e.swept.final_prediction)
        first = sum(final["answer_rank"] == 1 for final in finals)
        entropy, _ = finite_median([final["entropy_bits"] for final in finals])
        counts = [str(status[name]) for name in ("resolved", "unresolved", "none")]
        where = e.cite("gold_answer.status, final_prediction.answer_rank, final_prediction.entropy_bits")
        rows.append([escaped(e.model_id), *counts, str(first), number(entropy), where])
    answers = ["answers resolved", "unresolved", "none", "answer at rank 1"]
    return table(["model", *answers, "median `entropy_bits`", "source"], rows)


def _milestones(sweeps: Sequence[ReportInput]) -> str:
    rows = []
    for e in sweeps:
        for lens in e.swept.lenses:
            of = e.milestones(lens)
            cells = []
            for key in REPORTED_MILESTONES:
                frac, count = finite_median([at[key]["frac"] for at in of])
                cells.append(f"{number(frac)} ({count})")
            where = e.cite("diagnostics", f"milestones.{lens}", "frac")
            rows.append([escaped(e.model_id), lens, str(len(of)), *cells, where])
    return table(["model", "lens", "prompts", *map(code, REPORTED_MILESTONES), "source"], rows)


def _depth(sweeps: Sequence[ReportInput]) -> str:
    rows = []
    for e in sweeps:
        for lens in e.swept.lenses:
            file = next_token_file(e.files, lens)
            for i, (percent, row) in enumerate(depth_rows(e.num_blocks).items()):
                name = [escaped(e.model_id), lens, f"{percent}%", str(row)]
                rows.append([*name, *depth_medians(e.swept.summaries, lens, i), cite(file, f"layer {row}")])
    return table(["model", "lens", "depth", "row", *map(code, MEASURES), "source"], rows)


def _against_norm(sweeps: Sequence[ReportInput], lens: str) -> str:
    parts = []
    for e in sweeps:
        gain = against_norm(e.swept.summaries, lens, e.num_blocks, e.files)
        if gain:
            parts.append(f"### {escaped(e.model_id)}\n\n{gain}")
    return "\n".join(parts) or "No model was read with this lens.\n"


def _checks(sweeps: Sequence[ReportInput]) -> str:
    rows = []
    for e in sweeps:
        risks = Counter(diagnostic["raw_versus_norm"]["lens_artifact_risk"] for diagnostic in e.swept.diagnostics)
        warned = sum(diagnostic["last_row"]["warn_high_last_layer_kl"] for diagnostic in e.swept.diagnostics)
        broken = sum(bool(diagnostic["nonfinite"]) for diagnostic in e.swept.diagnostics)
        counts = [str(risks[risk]) for risk in ("low", "medium", "high")]
        keys = ("raw_versus_norm.lens_artifact_risk", "last_row.warn_high_last_layer_kl", "nonfinite")
        where = e.cite("diagnostics", *keys)
        rows.append([escaped(e.model_id), *counts, str(warned), str(broken), where])
    risk = [f"prompts of {of} `lens_artifact_risk`" for of in ("low", "medium", "high")]
    return table(["model", *risk, "with `warn_high_last_layer_kl`", "with `nonfinite`", "source"], rows)
