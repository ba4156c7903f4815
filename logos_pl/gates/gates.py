"""Acceptance gates of a tuned lens. Source: docs/method.md §6.

Choices that the definitions leave open:

* Gates A and D must hold both on the prompts and on held-out text. The median decides; its interval is only shown.
* Gate B counts the prompts whose answer the model itself ranks 5 or better; for others, no lens is expected to reach
  rank 5. An answer that a lens never finds counts as found at row n + 1. Shifts are whole rows, compared with the
  unrounded threshold, so that 2.25 rows require 3.
* Gate C takes the median over prompts; a single prompt above the threshold gives a remark.
* With fewer than `MIN_SAMPLES` prompts or sequences, or with a non-finite value, a check is undecided and its gate is
  not passed.
* The lens beats a baseline if the 95% interval of `Kpis.gain_bits` lies above `MIN_GAIN_BITS`. The gain is measured on
  held-out text, since few prompts cannot resolve a small gain, and averaged over the three depths, since gains at one
  depth may offset losses at another. A lens that beats the norm lens but not both other baselines is calibration-only.
  This is reported whether or not the gates pass, and does not fail them.
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
"""Smallest number of samples for a 95% interval of the median: the range of 6 samples contains the median with
probability 1 − 2/2⁶ = 0.97, that of 5 with 0.94."""

MIN_GAIN_BITS = 0.02
"""Smallest gain in bits that counts. On the demo, bias-only lenses trained on different text or for half as long differ
by up to 0.010 bits with an interval that excludes 0; a lens of rank 16 gains 0.19 bits over them."""

SET_WORDS = {SUITE: "prompts", TEXT: "held-out text"}


class Check(NamedTuple):
    """One comparison with a threshold.

    Attributes:
        gate: `A` to `D`.
        what: Description of the measured quantity.
        unit: `bits` or `frac`.
        measured: Measured value with its interval; None without samples.
        threshold: Threshold in the same unit.
        margin: Distance from the threshold, positive if the check holds; None without samples.
        passed: Whether the check holds.
        reason: Reason why it is undecided; None if it is decided.
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
    """One gate; all of its checks must hold.

    Attributes:
        letter: Letter of the gate.
        checks: Returns its checks for the KPIs of a lens.
        at_most: Whether the measured value must be at most the threshold; else at least.
        in_brief: Description that fits a table of 80 columns; None: a shortened `Check.what`.
        spelled_out: Whether the full description is printed below the table.
    """

    letter: str
    checks: "Callable[[Kpis], list[Check]]"
    at_most: bool = False
    in_brief: str | None = None
    spelled_out: bool = False


class Verdict(NamedTuple):
    """Result of all gates for a lens.

    Attributes:
        checks: All checks in the order of the gates.
        gates: Whether all checks hold, by gate.
        passed: Whether all gates hold.
        beats: Whether the lens beats a baseline, by baseline; None if undecided.
        calibration_only: Whether it beats only the norm lens; None if undecided.
        early_rows: Thresholds of gate B in rows, by rank.
        num_cannot_pass: Prompts of gate B that no lens can pass, as the norm lens finds their answer too early.
    """

    checks: list[Check]
    gates: dict[str, bool]
    passed: bool
    beats: dict[str, bool | None]
    calibration_only: bool | None
    early_rows: dict[int, float]
    num_cannot_pass: int


def early_rows(num_blocks: int) -> dict[int, float]:
    """Thresholds of gate B in rows, by rank: 4 and 2, scaled by n/32 in models with fewer blocks, at least 1."""
    scale = min(1.0, num_blocks / FULL_DEPTH_BLOCKS)
    return {rank: max(1.0, rows * scale) for rank, rows in MIN_EARLY_ROWS.items()}


def evaluate_gates(kpis: Kpis) -> Verdict:
    """Evaluate every gate on the KPIs of a lens."""
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
    """Check that the value is at least the threshold; with ``sign`` −1, at most."""
    margin = None if measured is None else sign * (measured.estimate - threshold)
    passed = reason is None and margin is not None and margin >= 0
    return Check(gate, what, unit, measured, threshold, margin, passed, reason)


def _undecidable(kpis: Kpis, where: str, num: int) -> str | None:
    """Reason why a value from ``num`` prompts or sequences is undecided; None if it is decided."""
    kind = {SUITE: "prompts", TEXT: "sequences of held-out text"}[where]
    if not (kpis.text_is_finite if where == TEXT else not kpis.left_out["not_finite"]):
        return f"some {kind} have values that are not finite"
    return f"{num} {kind}, where {MIN_SAMPLES} are needed" if num < MIN_SAMPLES else None


def _delta_reason(kpis: Kpis, where: str) -> str | None:
    return _undecidable(kpis, where, kpis.num_used if where == SUITE else kpis.num_sequences)


def _to_final(kpis: Kpis, where: str) -> dict[int, Interval | None]:
    """Median ΔKL over the norm lens in bits, by depth percentile."""
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
"""All gates in the order of display; `artifacts.verdict.GateName` has their letters."""


def gate_of(letter: str) -> Gate:
    """Return the gate with a letter."""
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
