"""The model card of a tuned lens: ``README.md`` with the front matter that the Hub reads."""

import json
import re
from typing import NamedTuple

from logos_pl.artifacts.card_model import loaded_facts, quick_start
from logos_pl.artifacts.filenames import (
    DEPTH_FIGURE_FILE,
    DIGEST_FILE,
    GATE_ROWS_FIGURE_FILE,
    GATES_FILE,
    PROVENANCE_FILE,
)
from logos_pl.artifacts.provenance import Described, Provenance
from logos_pl.artifacts.provenance_schema import Budget, Init, MeanDivergence
from logos_pl.artifacts.verdict import Baseline, Check, EvaluatedOn, Figure
from logos_pl.io.markdown import code, escaped, literal, table

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Release(NamedTuple):
    """Release of a published lens.

    Attributes:
        repo_id: The repository on the Hub.
        version: The release in which it last changed.
    """

    repo_id: str
    version: str


def model_card(provenance: Provenance, num_bytes: int, release: Release | None = None) -> str:
    """Return the model card as Markdown; all its numbers are from the provenance.

    Args:
        provenance: Provenance of the lens.
        num_bytes: Size of ``weights.pt``.
        release: Release of a published lens; None for a local one. A published lens without a verdict has a
            ``DEPTH_FIGURE_FILE`` in its folder.
    """
    p = provenance
    parts = [
        front_matter(p, ["tuned-lens", "logit-lens", "interpretability"]),
        f"# Tuned lens for {escaped(p.model_id)}\n",
        "A tuned lens reads a language model's next-token distribution from any depth of its residual stream: one "
        "low-rank affine map and one temperature per row, in front of the model's own frozen head "
        "([arXiv:2303.08112](https://arxiv.org/abs/2303.08112)).\n",
        _facts(p, num_bytes, release),
        "## Held-out divergence from the model's final distribution\n",
        _kl_table(p),
        *_gates(p, published=release is not None),
        "## How it was trained\n",
        _training(p),
        "## Quick start\n",
        quick_start(p, "load_tuned_lens", _loaded_from(p, release), p.capacity.rows),
    ]
    return "\n".join(parts)


def front_matter(p: Described, tags: list[str]) -> str:
    """Front matter for the Hub."""
    # Every JSON string is a valid YAML string.
    lines = ["---", "library_name: logos-pl", "tags:", *(f"- {tag}" for tag in tags)]
    loaded = p.fingerprint.loaded_as
    repo_id = p.model_id if loaded is None or loaded.repo_id is None else loaded.repo_id
    if HUB_ID.fullmatch(repo_id):
        lines.append(f"base_model: {json.dumps(repo_id)}")
    if HUB_ID.fullmatch(p.dataset.repo_id):
        lines += ["datasets:", f"- {json.dumps(p.dataset.repo_id)}"]
    return "\n".join([*lines, "---\n"])


def _facts(p: Provenance, num_bytes: int, release: Release | None) -> str:
    basis = p.preconditioner
    facts = {
        "Model": code(p.model_id),
        "Model commit": code(p.model_commit),
        **loaded_facts(p),
        **({} if release is None else {"Lens version": f"{release.version} of {code(release.repo_id)}"}),
        "Rows with a translator": f"1 to {p.capacity.rows}",
        "Rank": f"{p.capacity.rank_k}",
        "Parameters": f"{p.capacity.parameters:,}",
        "Size": f"{num_bytes / 1e6:.1f} MB (fp32)" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB (fp32)",
        "Trained in": "the plain basis"
        if basis is None
        else f"a {escaped(basis.type)} basis, damping {basis.damping:g}",
        "Decoding norm": f"`{p.decoding_norm}`",
        **_bias_only(p),
        "Made with": f"logos-pl {escaped(p.project_version)}",
    }
    return table(["", ""], [list(item) for item in facts.items()])


def _bias_only(p: Provenance) -> dict[str, str]:
    if p.bias_only is None:
        return {}
    return {"Bias-only lens": f"`{p.bias_only.file}`, {p.bias_only.parameters:,} parameters"}


def _kl_table(p: Provenance) -> str:
    header = [
        "Depth",
        "Row",
        "KL(row‖final), norm",
        "tuned",
        "KL(final‖row), norm",
        "tuned",
        "Same top token, norm",
        "tuned",
    ]
    rows = [
        [f"{percentile}%", str(at.row), *side_by_side(at.norm, at.tuned)] for percentile, at in p.val_kl_bits.items()
    ]
    return table(header, rows) + "\nMean over held-out positions, in bits; `norm` is the norm lens (logit lens).\n"


def _gates(p: Provenance, published: bool) -> list[str]:
    """Section on the gates; of a published lens without a verdict, a note that it was not tested."""
    if p.acceptance is None:
        if not published:
            return []
        depths = f"![KL divergence at the depth percentiles]({DEPTH_FIGURE_FILE})\n"
        return [depths, "## Gates: not evaluated\n", "This lens has not been evaluated with `logos-pl test`.\n"]
    acceptance = p.acceptance
    verdict = "passed" if acceptance.passed else "not passed"
    note = ", calibration-only" if acceptance.calibration_only else ""
    rows = [
        [
            letter,
            escaped(check.what),
            _measured(check),
            f"{check.threshold:g}",
            "passed" if check.passed else "not passed",
        ]
        for letter, gate in acceptance.gates.items()
        for check in gate.checks
    ]
    remarks = "".join(f"- {escaped(remark)}\n" for remark in acceptance.remarks)
    return [
        f"## Gates: {verdict}{note}\n",
        f"![KL divergence against depth on held-out text]({GATE_ROWS_FIGURE_FILE})\n",
        table(["Gate", "Figure", "Measured, with 95% interval", "Threshold", "Verdict"], rows),
        *_kpis(p),
        _evaluated_on(acceptance.evaluated_on),
        f"{remarks}\n`{GATES_FILE}` has all figures; `gates-prompts.csv` and `gates-rows.csv` have the measurements.\n",
    ]


_BASELINES: dict[Baseline, str] = {
    "norm": "the norm lens",
    "norm_tau": "the norm lens with a temperature per row",
    "bias": "the bias-only lens",
}


def _kpis(p: Provenance) -> list[str]:
    """Table of the gains over each baseline, in bits and in rows, with intervals."""
    if p.kpis is None:
        return []
    rows = [
        [f"gain on held-out text over {_BASELINES[baseline]}, bits", _interval(gain)]
        for baseline, gain in p.kpis.held_out_gain_bits.items()
    ]
    shifts = {
        10: p.kpis.earliness_shift_first_rank_le_10,
        5: p.kpis.earliness_shift_first_rank_le_5,
        1: p.kpis.earliness_shift_first_rank_le_1,
    }
    rows += [[f"rows earlier at rank ≤ {rank}", _interval(shift)] for rank, shift in shifts.items()]
    rows.append(["share of rows at rank 1, gain", _interval(p.kpis.rank1_coverage_gain)])
    for m, perplexity in p.kpis.skip_layers.perplexity.items():
        what = "perplexity of the model itself" if m == "0" else f"perplexity without its last {m} blocks"
        rows.append([what, "–" if perplexity is None else f"{perplexity:.4g}"])
    return [table(["Figure", "Value, with 95% interval"], rows)]


def _interval(found: Figure | None) -> str:
    return "–" if found is None else f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _evaluated_on(on: EvaluatedOn) -> str:
    return (
        f"Evaluated on {on.facts} facts of {code(on.suite)} (sha256 {code(on.suite_sha256[:12] + '…')}) and on "
        f"{on.sequences} sequences of {on.seq_len} tokens of {code(on.dataset)} that were held out, "
        f"in {escaped(on.dtype)} on {escaped(on.device)}.\n"
    )


def _measured(check: Check) -> str:
    found = check.measured
    return "–" if found is None else f"{_interval(found)} {check.unit} (n = {found.num:,})"


def side_by_side(norm: MeanDivergence, lens: MeanDivergence) -> list[str]:
    """Cells of a table: each value of the norm lens, followed by that of the other lens."""
    return [
        f"{norm.kl_to_final_bits:.3f}",
        f"{lens.kl_to_final_bits:.3f}",
        f"{norm.kl_from_final_bits:.3f}",
        f"{lens.kl_from_final_bits:.3f}",
        f"{norm.top1_agree_frac:.1%}",
        f"{lens.top1_agree_frac:.1%}",
    ]


def _passes(budget: Budget) -> str:
    passes = budget.tokens_trained / budget.tokens
    return "" if passes == 1 else f", trained on in {passes:.3g} passes"


def _training(p: Provenance) -> str:
    low, high = p.budget.position_range
    name = "" if p.dataset.name is None else f", {escaped(p.dataset.name)}"
    revision = "" if p.dataset.revision is None else f", revision {escaped(p.dataset.revision)}"
    early = "ended early" if p.optim.stopped_early else "full budget"
    return (
        f"- Text: {code(p.dataset.repo_id)}{name}, split {escaped(p.dataset.split)}{revision}; "
        f"{p.dataset.documents:,} documents, {p.budget.tokens:,} tokens in sequences of {p.budget.seq_len}"
        f"{_passes(p.budget)}.\n"
        f"- Initialisation: {_start(p.init)}\n"
        f"- Loss: cross-entropy against the model's final distribution at {p.budget.positions_per_seq} positions per "
        f"sequence within [{low:g}, {high:g}) of the context, {p.layers_per_step} rows per step.\n"
        f"- Optimiser: AdamW, learning rate {p.optim.lr:g} ({escaped(p.optim.schedule)}), "
        f"{p.batching.effective_batch_seqs} sequences per step; {p.optim.steps_done} steps ({early}), "
        f"weights of step {p.optim.exported_step}; seed {p.seed}.\n"
        f"- Precision: model {escaped(p.precision.model)}, unembedding {escaped(p.precision.unembed)}, loss "
        f"{escaped(p.precision.loss)}.\n\n"
        f"`{PROVENANCE_FILE}` has all settings and the hashes of the other files; its own hash is in `{DIGEST_FILE}`.\n"
    )


def _start(init: Init) -> str:
    if init.kind == "random":
        return "random U, the same for all rows; V and c zero."
    return f"closed form, by least squares on {init.positions:,} positions of the first {init.tokens:,} tokens."


def _loaded_from(p: Provenance, release: Release | None) -> str:
    """Arguments that load the lens from its release, or from the folder of a fit."""
    if release is None:
        return f"{literal(f'checkpoints/tuned_lenses/{p.clean_model_name}')}, lm"
    return f"{literal(release.repo_id)}, lm, revision={literal(release.version)}"
