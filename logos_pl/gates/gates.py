"""The gates a tuned lens is accepted by: verdicts over measured figures. Source: docs/method.md §6.

Choices that the definitions leave open:

* Gates A and D hold over the prompts and over held-out text; either alone can fail them. A median decides by itself,
  its interval is shown beside it.
* Gate B counts the prompts whose answer the model itself ranks 5 or better: for any other, rank 5 is never reached for
  good. An answer that a lens never finds counts as found at row n + 1. Shifts are whole rows and are compared with the
  unrounded threshold, so that 2.25 rows ask for 3.
* Gate C takes the median over prompts; a single prompt above the threshold gives a remark.
* A figure from fewer than `MIN_SAMPLES` prompts or sequences decides nothing and the gate is not passed; likewise
  where a value was not finite.
* The lens beats a baseline where the 95% interval of `Kpis.gain_bits` lies above `MIN_GAIN_BITS`: on held-out text,
  because a few prompts cannot tell a small gain from none, and over the three depths at once, because a lens that
  wins at one depth what it loses at another does more than calibrate. A lens that beats the norm lens and not both
  other baselines is calibration-only. This is said whether or not the gates pass, and does not fail them: the first
  baseline decides.
"""

from collections.abc import Callable
from typing import NamedTuple

from logos_pl.functional.bootstrap import Interval
from logos_pl.gates.kpis import SUITE, TEXT, Kpis, interval
from logos_pl.kinds.registry import baselines

MIN_DELTA_KL_BITS = {25: 0.2, 50: 0.3, 75: 0.3}
MIN_EARLY_FRAC = 0.6
MIN_EARLY_ROWS = {10: 4.0, 5: 2.0}
FULL_DEPTH_BLOCKS = 32
MAX_LAST_LAYER_KL_BITS = 0.05
WORST_DELTA_KL_BITS = -0.1

MIN_SAMPLES = 6
"""The least number from which a 95% interval of a median exists: the range of 6 samples holds it with probability
1 − 2/2⁶ = 0.97, that of 5 only with 0.94."""

MIN_GAIN_BITS = 0.02
"""A gain below this is none. On the demo, two lenses of bias and temperature that were trained on other text, or one of
them half as long, differ by up to 0.010 bits with an interval without 0; a lens of rank 16 gains 0.19 bits on them."""

SET_WORDS = {SUITE: "prompts", TEXT: "held-out text"}


class Check(NamedTuple):
    """One comparison of a gate.

    Attributes:
        gate: `A` to `D`.
        what: What is compared, in words.
        unit: `bits` or `frac`.
        measured: The figure with its interval; None without samples.
        threshold: What it is compared with.
        margin: By how much it is on the right side; below 0: on the wrong one. None without samples.
        passed: Whether it holds.
        reason: Why it is not decidable; None where it is.
    """

    gate: str
    what: str
    unit: str
    measured: Interval | None
    threshold: float
    margin: float | None
    passed: bool
    reason: str | None


class Gate(NamedTuple):
    """One gate: all of its comparisons have to hold.

    Attributes:
        letter: Its name.
        checks: Its comparisons over the figures of a lens.
        at_most: Whether a figure has to be at most its threshold; else at least.
        in_brief: What is compared, short enough for a table of 80 columns; None: the comparison's own words, shortened.
        spelled_out: Whether the comparison stands in full below that table.
    """

    letter: str
    checks: "Callable[[Kpis], list[Check]]"
    at_most: bool = False
    in_brief: str | None = None
    spelled_out: bool = False


class Verdict(NamedTuple):
    """The verdict of all gates over a lens.

    Attributes:
        checks: Every comparison, in the order of the gates.
        gates: By gate, whether all its checks hold.
        passed: Whether all gates hold.
        beats: By baseline, whether the lens beats it; None where this cannot be decided.
        calibration_only: Whether it beats the norm lens only; None where this is not decidable.
        early_rows: The thresholds of gate B in rows, by rank, as used.
        num_cannot_pass: Prompts of gate B that no lens could pass: the norm lens finds their answer too early.
    """

    checks: list[Check]
    gates: dict[str, bool]
    passed: bool
    beats: dict[str, bool | None]
    calibration_only: bool | None
    early_rows: dict[int, float]
    num_cannot_pass: int


def early_rows(num_blocks: int) -> dict[int, float]:
    """By rank, the rows by which an answer has to be found earlier: 4 and 2, × n/32 in shorter models, at least 1."""
    scale = min(1.0, num_blocks / FULL_DEPTH_BLOCKS)
    return {rank: max(1.0, rows * scale) for rank, rows in MIN_EARLY_ROWS.items()}


def judge(kpis: Kpis) -> Verdict:
    """The verdict of every gate over the figures of a lens."""
    wanted = early_rows(kpis.num_blocks)
    by_gate = {gate.letter: gate.checks(kpis) for gate in GATES}
    gates = {letter: all(check.passed for check in checks) for letter, checks in by_gate.items()}
    beats = {baseline: _beats(kpis, baseline) for baseline in baselines()}
    cannot = sum(ten.largest < wanted[10] or five.largest < wanted[5] for ten, five in kpis.early)
    return Verdict(
        checks=[check for checks in by_gate.values() for check in checks],
        gates=gates,
        passed=all(gates.values()),
        beats=beats,
        calibration_only=_calibration_only(beats),
        early_rows=wanted,
        num_cannot_pass=cannot,
    )


def _check(
    gate: str, what: str, unit: str, measured: Interval | None, threshold: float, reason: str | None, sign: int = 1
) -> Check:
    """At least the threshold; with ``sign`` −1, at most."""
    margin = None if measured is None else sign * (measured.estimate - threshold)
    passed = reason is None and margin is not None and margin >= 0
    return Check(gate, what, unit, measured, threshold, margin, passed, reason)


def _undecidable(kpis: Kpis, where: str, num: int) -> str | None:
    """Why a figure from ``num`` prompts or sequences decides nothing; None where it does."""
    kind = {SUITE: "prompts", TEXT: "sequences of held-out text"}[where]
    if not (kpis.text_is_finite if where == TEXT else not kpis.left_out["not_finite"]):
        return f"some {kind} have values that are not finite"
    return f"{num} {kind}, where {MIN_SAMPLES} are needed" if num < MIN_SAMPLES else None


def _delta_reason(kpis: Kpis, where: str) -> str | None:
    return _undecidable(kpis, where, kpis.num_used if where == SUITE else kpis.num_sequences)


def _to_final(kpis: Kpis, where: str) -> dict[int, Interval | None]:
    """Median ΔKL against the norm lens, by depth percentile."""
    deltas = kpis.median_delta_kl_bits["norm"][where]
    return {depth: None if delta is None else delta.to_final for depth, delta in deltas.items()}


def _gate_a(kpis: Kpis) -> list[Check]:
    return [
        _check(
            "A",
            f"median ΔKL, {SET_WORDS[where]}, {depth}% depth",
            "bits",
            measured,
            MIN_DELTA_KL_BITS[depth],
            _delta_reason(kpis, where),
        )
        for where in (SUITE, TEXT)
        for depth, measured in _to_final(kpis, where).items()
    ]


def _gate_b(kpis: Kpis) -> list[Check]:
    wanted = early_rows(kpis.num_blocks)
    passing = [float(ten.shift >= wanted[10] and five.shift >= wanted[5]) for ten, five in kpis.early]
    what = f"prompts ≥ {wanted[10]:g} rows earlier at rank ≤ 10 and ≥ {wanted[5]:g} at rank ≤ 5"
    reason = _undecidable(kpis, SUITE, len(passing))
    return [_check("B", what, "frac", interval(passing, "mean"), MIN_EARLY_FRAC, reason)]


def _gate_c(kpis: Kpis) -> list[Check]:
    what, measured = "median KL of the last row after temperature", kpis.last_layer_kl_after_temp_bits
    reason = _undecidable(kpis, SUITE, kpis.num_used)
    return [_check("C", what, "bits", measured, MAX_LAST_LAYER_KL_BITS, reason, sign=-1)]


def _gate_d(kpis: Kpis) -> list[Check]:
    checks = []
    for where in (SUITE, TEXT):
        measured = [found for found in _to_final(kpis, where).values() if found is not None]
        worst = min(measured, key=lambda found: found.estimate, default=None)
        what = f"lowest median ΔKL of any depth, {SET_WORDS[where]}"
        checks.append(_check("D", what, "bits", worst, WORST_DELTA_KL_BITS, _delta_reason(kpis, where)))
    return checks


GATES = (
    Gate("A", _gate_a),
    Gate("B", _gate_b, in_brief="prompts read early enough", spelled_out=True),
    Gate("C", _gate_c, at_most=True, in_brief="KL of last row, tempered"),
    Gate("D", _gate_d),
)
"""All gates, in the order in which they are shown; `artifacts.verdict.GateName` has their letters."""


def gate_of(letter: str) -> Gate:
    """The gate of a letter."""
    return next(gate for gate in GATES if gate.letter == letter)


def _beats(kpis: Kpis, baseline: str) -> bool | None:
    gain = kpis.gain_bits[baseline]
    if gain is None or _delta_reason(kpis, TEXT) is not None:
        return None
    return gain.low > MIN_GAIN_BITS


def _calibration_only(beats: dict[str, bool | None]) -> bool | None:
    if any(value is None for value in beats.values()):
        return None
    return bool(beats["norm"] and not all(beats.values()))
