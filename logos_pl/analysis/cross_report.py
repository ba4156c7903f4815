"""Several models side by side: `evaluation-cross-models.md`, medians over each model's prompts."""

from collections import Counter
from collections.abc import Sequence

from logos_pl.analysis.markdown import cite, code, escaped, number, table
from logos_pl.analysis.report_depth import (
    MEASURES,
    depth_rows,
    finite_median,
    lenses_of,
    next_token_file,
    row_medians,
    tuned_against_norm,
)
from logos_pl.analysis.report_input import REACHED, Evaluation, ReportInput, evaluate

COMPARING = (
    "Medians are over all prompts of a model, controls and those without filler included, that have a finite value; in "
    "brackets, how many these are. Milestones are fractions of the number of blocks. In a table, a column headed in "
    "code is the column or key of that name in the file and at the place that end the line; a list without an index "
    "stands for all its entries."
)


def cross_model_report(sweeps: Sequence[ReportInput]) -> str:
    """`evaluation-cross-models.md`: the same sections in the same order whatever was read.

    Args:
        sweeps: One per model, in the order of the lines.
    """
    evaluations = [evaluate(facts) for facts in sweeps]
    sections = {
        "Models": _models,
        "Final prediction": _final,
        "Milestones": _milestones,
        "KL, entropy and cosine at 0/25/50/75/100% depth": _depth,
        "Tuned against norm": _tuned,
        "Checks": _checks,
    }
    parts = [f"## {heading}\n\n{section(evaluations)}" for heading, section in sections.items()]
    return "\n".join([f"# Evaluation across models\n\n{COMPARING}\n", *parts])


def _models(evaluations: Sequence[Evaluation]) -> str:
    rows = [
        [
            escaped(e.facts.model_id), str(e.facts.num_blocks), ", ".join(lenses_of(e.facts.records)) or "–",
            str(len(e.facts.records)), e.cite("model_stats.num_blocks, run.lenses, run.num_prompts"),
        ]
        for e in evaluations
    ]  # fmt: skip
    return table(["model", "`num_blocks`", "`lenses`", "`num_prompts`", "source"], rows)


def _final(evaluations: Sequence[Evaluation]) -> str:
    rows = []
    for e in evaluations:
        status = Counter(record.gold.status for record in e.facts.records)
        last = [record.next_token["norm"][-1] for record in e.facts.records]
        first = sum(row.answer_rank == 1 for row in last)
        entropy, _ = finite_median([row.teacher_entropy_bits for row in last])
        counts = [str(status[name]) for name in ("resolved", "unresolved", "none")]
        where = e.cite("gold_answer.status, final_prediction.answer_rank, final_prediction.entropy_bits")
        rows.append([escaped(e.facts.model_id), *counts, str(first), number(entropy), where])
    answers = ["answers resolved", "unresolved", "none", "answer at rank 1"]
    return table(["model", *answers, "median `entropy_bits`", "source"], rows)


def _milestones(evaluations: Sequence[Evaluation]) -> str:
    rows = []
    for e in evaluations:
        for lens in lenses_of(e.facts.records):
            of = [diagnostic["milestones"][lens] for diagnostic in e.diagnostics if lens in diagnostic["milestones"]]
            cells = []
            for key in REACHED:
                frac, count = finite_median([at[key]["frac"] for at in of])
                cells.append(f"{number(frac)} ({count})")
            where = e.cite("diagnostics", f"milestones.{lens}", "frac")
            rows.append([escaped(e.facts.model_id), lens, str(len(of)), *cells, where])
    return table(["model", "lens", "prompts", *map(code, REACHED), "source"], rows)


def _depth(evaluations: Sequence[Evaluation]) -> str:
    rows = []
    for e in evaluations:
        for lens in lenses_of(e.facts.records):
            file = next_token_file(e.facts.files, lens)
            read = [record.next_token[lens] for record in e.facts.records if lens in record.next_token]
            for percent, row in depth_rows(e.facts.num_blocks).items():
                name = [escaped(e.facts.model_id), lens, f"{percent}%", str(row)]
                rows.append([*name, *row_medians([of[row] for of in read]), cite(file, f"layer {row}")])
    return table(["model", "lens", "depth", "row", *map(code, MEASURES), "source"], rows)


def _tuned(evaluations: Sequence[Evaluation]) -> str:
    parts = []
    for e in evaluations:
        gain = tuned_against_norm(e.facts.records, e.facts.num_blocks, e.facts.files)
        if gain:
            parts.append(f"### {escaped(e.facts.model_id)}\n\n{gain}")
    return "\n".join(parts) or "No model was read with a tuned lens.\n"


def _checks(evaluations: Sequence[Evaluation]) -> str:
    rows = []
    for e in evaluations:
        risks = Counter(diagnostic["raw_versus_norm"]["lens_artifact_risk"] for diagnostic in e.diagnostics)
        warned = sum(diagnostic["last_row"]["warn_high_last_layer_kl"] for diagnostic in e.diagnostics)
        broken = sum(bool(diagnostic["nonfinite"]) for diagnostic in e.diagnostics)
        counts = [str(risks[risk]) for risk in ("low", "medium", "high")]
        keys = ("raw_versus_norm.lens_artifact_risk", "last_row.warn_high_last_layer_kl", "nonfinite")
        where = e.cite("diagnostics", *keys)
        rows.append([escaped(e.facts.model_id), *counts, str(warned), str(broken), where])
    risk = [f"prompts of {of} `lens_artifact_risk`" for of in ("low", "medium", "high")]
    return table(["model", *risk, "with `warn_high_last_layer_kl`", "with `nonfinite`", "source"], rows)
