"""Results of the gates for `gates.json` and for the terminal. Source: docs/method.md §6."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from logos_pl.functional.bootstrap import CONFIDENCE_FRAC, RESAMPLES, SEED, Interval
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.gates.gates import (
    FULL_DEPTH_BLOCKS,
    MAX_LAST_LAYER_KL_BITS,
    MIN_GAIN_BITS,
    MIN_SAMPLES,
    SET_WORDS,
    Check,
    Verdict,
    gate_of,
)
from logos_pl.gates.kpis import SUITE, TEXT, Kpis
from logos_pl.kinds.registry import baselines

SCHEMA_VERSION = 1

_LEFT_OUT_WORDS = {
    "answer_unresolved": "left out, as the answer merges with the prompt's last token",
    "not_finite": "left out because of non-finite values, so that the gates over prompts are undecided",
    "no_answer": "without an answer, counted for KL only",
    "final_rank_above_10": "left out of earliness at rank 10, as the model itself ranks the answer lower",
    "final_rank_above_5": "left out of earliness at rank 5 and of gate B, as the model itself ranks the answer lower",
    "final_rank_above_1": "left out of earliness at rank 1, as the model itself ranks another token first",
}


class TableRow(NamedTuple):
    """One line of the terminal's table, at most 80 columns wide: values in bits, or shares in percent."""

    gate: str
    what: str
    measured: str
    threshold: str
    margin: str
    verdict: str


@dataclass(frozen=True)
class GateReport:
    """Report on one lens.

    Attributes:
        kpis: KPIs of the lens.
        verdict: Result of the gates.
    """

    kpis: Kpis
    verdict: Verdict

    def acceptance(self) -> dict[str, Any]:
        """Results of the gates as plain values, for `provenance.json` and `gates.json`."""
        return {
            "passed": self.verdict.passed,
            "calibration_only": self.verdict.calibration_only,
            "gates": {
                gate: {
                    "passed": self.verdict.gates[gate],
                    "checks": [_check(check) for check in self.verdict.checks if check.gate == gate],
                }
                for gate in self.verdict.gates
            },
            "beats": dict(self.verdict.beats),
            "min_gain_bits": MIN_GAIN_BITS,
            "min_samples": MIN_SAMPLES,
            "gate_b_rows": {f"rank_le_{rank}": rows for rank, rows in self.verdict.early_rows.items()},
            "gate_b_prompts_that_cannot_pass": self.verdict.num_cannot_pass,
            "remarks": remarks(self.kpis, self.verdict),
        }

    def figures(self) -> dict[str, Any]:
        """KPIs as plain values, for `provenance.json` and `gates.json`."""
        kpis = self.kpis
        return {
            "median_delta_kl_bits": {
                baseline: {
                    where: {str(depth): _delta(delta) for depth, delta in deltas.items()}
                    for where, deltas in sets.items()
                }
                for baseline, sets in kpis.median_delta_kl_bits.items()
            },
            "held_out_gain_bits": {baseline: _interval(gain) for baseline, gain in kpis.gain_bits.items()},
            **{
                f"earliness_shift_first_rank_le_{rank}": _interval(shift)
                for rank, shift in kpis.earliness_shift.items()
            },
            "last_layer_kl_after_temp_bits": _interval(kpis.last_layer_kl_after_temp_bits),
            "last_layer_kl_after_temp_bits_max": kpis.last_layer_kl_after_temp_bits_max,
            "rank1_coverage_gain": _interval(kpis.rank1_coverage_gain),
        }

    def to_plain(self) -> dict[str, Any]:
        """Contents of `gates.json` as plain values, without NaN."""
        kpis = self.kpis
        return {
            "schema_version": SCHEMA_VERSION,
            "num_blocks": kpis.num_blocks,
            "rows_at_depth": {str(depth): row for depth, row in depth_percentile_rows(kpis.num_blocks).items()},
            "prompts": {"given": kpis.num_prompts, "used": kpis.num_used, "left_out": dict(kpis.left_out)},
            "held_out_text": {"sequences": kpis.num_sequences, "finite": kpis.text_is_finite},
            "bootstrap": {"confidence_frac": CONFIDENCE_FRAC, "resamples": RESAMPLES, "seed": SEED},
            "acceptance": self.acceptance(),
            "kpis": self.figures(),
        }

    def table(self) -> list[TableRow]:
        """Lines of the table, one per check, in the order of the gates."""
        return [_row(check) for check in self.verdict.checks]

    def baselines(self) -> list[tuple[str, str, str]]:
        """Description of each baseline, gain over it on held-out text in bits, and whether the lens beats it."""
        outcomes = {True: "beaten", False: "not beaten", None: "undecided"}
        rows = []
        for baseline, gain in self.kpis.gain_bits.items():
            measured = "–" if gain is None else f"{gain.estimate:.3f} [{gain.low:.3f}, {gain.high:.3f}]"
            rows.append((baselines()[baseline].words, measured, outcomes[self.verdict.beats[baseline]]))
        return rows

    def summary(self) -> str:
        """Verdict in one line."""
        failed = [gate for gate, passed in self.verdict.gates.items() if not passed]
        text = f"gate(s) {', '.join(failed)} not passed" if failed else "all gates passed"
        return f"{text}; calibration-only" if self.verdict.calibration_only else text


def remarks(kpis: Kpis, verdict: Verdict) -> list[str]:
    """Remarks that qualify the verdict, one sentence each; empty if there is nothing to qualify."""
    found = [
        f"At {depth}% depth over {SET_WORDS[where]}, the two directions of KL disagree on which lens is closer."
        for where in (SUITE, TEXT)
        for depth, delta in kpis.median_delta_kl_bits["norm"][where].items()
        if delta is not None and not delta.signs_agree
    ]
    if verdict.calibration_only:
        equals = " and ".join(of.words for name, of in baselines().items() if not verdict.beats[name])
        found.append(f"The lens is calibration-only: it beats the norm lens, but not {equals}.")
    if kpis.num_blocks < FULL_DEPTH_BLOCKS:
        found.append(
            f"The model has {kpis.num_blocks} blocks: gate B's thresholds are scaled from 4 and 2 rows in "
            f"{FULL_DEPTH_BLOCKS} blocks to {verdict.early_rows[10]:g} and {verdict.early_rows[5]:g}."
        )
    if verdict.num_cannot_pass:
        found.append(
            f"{verdict.num_cannot_pass} of {len(kpis.early)} prompts count against gate B by construction: the norm "
            "lens finds their answer too early for any lens to be that many rows earlier."
        )
    worst = kpis.last_layer_kl_after_temp_bits_max
    if worst is not None and worst > MAX_LAST_LAYER_KL_BITS:
        found.append(f"For some prompt, the last row is {worst:.3g} bits from the model's output after temperature.")
    for reason in dict.fromkeys(f"Gate {c.gate} is undecided: {c.reason}." for c in verdict.checks if c.reason):
        found.append(reason)
    return found + [f"{len(ids)} prompt(s) {_LEFT_OUT_WORDS[reason]}." for reason, ids in kpis.left_out.items() if ids]


def _interval(found: Interval | None) -> dict[str, float | int] | None:
    return None if found is None else found._asdict()


def _delta(delta: Any) -> dict[str, Any] | None:
    if delta is None:
        return None
    return {
        "to_final": _interval(delta.to_final),
        "from_final": _interval(delta.from_final),
        "signs_agree": delta.signs_agree,
    }


def _check(check: Check) -> dict[str, Any]:
    return check._asdict() | {"measured": _interval(check.measured)}


def _row(check: Check) -> TableRow:
    sign = "≤" if gate_of(check.gate).at_most else "≥"
    number = "{:.0%}" if check.unit == "frac" else "{:.3f}"
    measured = "–"
    if check.measured is not None:
        estimate, low, high = (number.format(value) for value in check.measured[:3])
        measured = f"{estimate} [{low}, {high}]"
    margin = "–" if check.margin is None else number.replace(":", ":+").format(check.margin)
    verdict = "passed" if check.passed else "not passed" if check.reason is None else "undecided"
    return TableRow(check.gate, _in_brief(check), measured, f"{sign} {number.format(check.threshold)}", margin, verdict)


def _in_brief(check: Check) -> str:
    """Description of the check that fits a table of 80 columns; the unit is bits, or percent for shares."""
    in_brief = gate_of(check.gate).in_brief
    return in_brief or check.what.replace("of any depth, ", "").replace(" depth", "").replace("held-out text", "text")
