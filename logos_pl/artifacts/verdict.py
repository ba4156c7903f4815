"""Figures and verdict of the gates, named as in ``gates.json`` and ``provenance.json``."""

from dataclasses import dataclass
from typing import Literal, get_args

from logos_pl.errors import InputError

Baseline = Literal["norm", "norm_tau", "bias"]
GateName = Literal["A", "B", "C", "D"]
REMEDY = "it was altered; fetch the artifact again, or test the lens again"


@dataclass(frozen=True)
class Figure:
    """A figure with its bootstrap interval.

    Attributes:
        estimate: The figure.
        low: Lower end of the 95% interval.
        high: Upper end.
        num: Number of samples.
    """

    estimate: float
    low: float
    high: float
    num: int


@dataclass(frozen=True)
class DeltaKl:
    """How much closer a lens is to the model than a baseline, in both directions of the KL divergence.

    Attributes:
        to_final: Difference of KL(P_row ‖ P_final), which the gates use.
        from_final: Difference of KL(P_final ‖ P_row).
        signs_agree: Whether both have the same sign.
    """

    to_final: Figure
    from_final: Figure
    signs_agree: bool


@dataclass(frozen=True)
class SkipLayers:
    """Perplexity of held-out text when the lens replaces the last m blocks.

    Attributes:
        num_tokens: Number of predicted tokens.
        perplexity: By m; 0 is the model itself. None if it exceeds the range of a float.
        not_applicable: By m, why it was not measured.
    """

    num_tokens: int
    perplexity: dict[Literal["0", "2", "4", "8"], float | None]
    not_applicable: dict[Literal["2", "4", "8"], str]


@dataclass(frozen=True)
class Kpis:
    """The figures of the gates; None without samples.

    Attributes:
        median_delta_kl_bits: By baseline, by `suite` or `held_out_text`, by depth percentile.
        held_out_gain_bits: By baseline.
        earliness_shift_first_rank_le_10: Rows by which the lens has the answer at rank ≤ 10 before the norm lens.
        earliness_shift_first_rank_le_5: At rank ≤ 5.
        earliness_shift_first_rank_le_1: At rank 1.
        last_layer_kl_after_temp_bits: Median over prompts.
        last_layer_kl_after_temp_bits_max: Largest over prompts.
        rank1_coverage_gain: Mean gain in the share of rows at rank 1.
        skip_layers: The skip-layers check.
    """

    median_delta_kl_bits: dict[
        Baseline, dict[Literal["suite", "held_out_text"], dict[Literal["25", "50", "75"], DeltaKl | None]]
    ]
    held_out_gain_bits: dict[Baseline, Figure | None]
    earliness_shift_first_rank_le_10: Figure | None
    earliness_shift_first_rank_le_5: Figure | None
    earliness_shift_first_rank_le_1: Figure | None
    last_layer_kl_after_temp_bits: Figure | None
    last_layer_kl_after_temp_bits_max: float | None
    rank1_coverage_gain: Figure | None
    skip_layers: SkipLayers


@dataclass(frozen=True)
class Check:
    """One comparison of a gate.

    Attributes:
        gate: Name of the gate.
        what: What is compared, in words.
        unit: Unit of the figure and the threshold.
        measured: The figure; None without samples.
        threshold: Value it is compared with.
        margin: Distance to the threshold, not negative if passed; None without samples.
        passed: Whether the figure reaches the threshold.
        reason: Why the comparison is undecidable; None if it is decidable.
    """

    gate: GateName
    what: str
    unit: Literal["bits", "frac"]
    measured: Figure | None
    threshold: float
    margin: float | None
    passed: bool
    reason: str | None

    @property
    def makes_sense(self) -> bool:
        """Whether `passed` is consistent: true if and only if decidable with a margin that is not negative."""
        return self.passed == (self.reason is None and self.margin is not None and self.margin >= 0)


@dataclass(frozen=True)
class Gate:
    """A gate with its comparisons."""

    passed: bool
    checks: list[Check]


@dataclass(frozen=True)
class EvaluatedOn:
    """The prompts and the text that a verdict is based on.

    Attributes:
        suite: File name of the prompts.
        suite_sha256: Hash of that file.
        facts: Prompts of the suite that were evaluated.
        dataset: Source of the held-out text: Hub id, or the name of a local folder or file.
        name: Configuration of the data set, or None.
        split: Its split.
        revision: Tag or commit, or None for local files.
        format: Format of its rows, `text` or `chat`.
        special_tokens: Whether texts and prompts got the tokenizer's special tokens, `auto` or `none`.
        held_out_frac: Share of its documents that was held out for test.
        sequences: Number of sequences read.
        seq_len: Tokens per sequence.
        positions_per_seq: Positions read per sequence.
        position_range: Part of the context they are sampled from, as fractions.
        device: Device of the model.
        dtype: Number format of the model.
    """

    suite: str
    suite_sha256: str
    facts: int
    dataset: str
    name: str | None
    split: str
    revision: str | None
    format: Literal["text", "chat"]
    special_tokens: Literal["auto", "none"]
    held_out_frac: float
    sequences: int
    seq_len: int
    positions_per_seq: int
    position_range: tuple[float, float]
    device: str
    dtype: str


@dataclass(frozen=True)
class Acceptance:
    """The verdict.

    Attributes:
        passed: Whether all gates are passed.
        calibration_only: Whether the lens beats only the norm lens; None if undecidable.
        gates: By name.
        beats: By baseline, whether the lens beats it; None if undecidable.
        min_gain_bits: Smallest gain that beats a baseline.
        min_samples: Fewest samples for a decision.
        gate_b_rows: Thresholds of gate B in rows, by rank.
        gate_b_prompts_that_cannot_pass: Prompts on which no lens can reach the thresholds.
        remarks: Remarks to be read with the verdict.
        evaluated_on: Text and prompts of the evaluation.
    """

    passed: bool
    calibration_only: bool | None
    gates: dict[GateName, Gate]
    beats: dict[Baseline, bool | None]
    min_gain_bits: float
    min_samples: int
    gate_b_rows: dict[Literal["rank_le_10", "rank_le_5"], float]
    gate_b_prompts_that_cannot_pass: int
    remarks: list[str]
    evaluated_on: EvaluatedOn

    def refuse_nonsense(self, name: str) -> None:
        """Check that the verdict follows from its gates, and each gate from its comparisons.

        Args:
            name: Name in messages.

        Raises:
            InputError: One does not; the gate is named.
        """
        if len(self.gates) != len(get_args(GateName)) or not all(gate.checks for gate in self.gates.values()):
            raise InputError(f"{name} lacks a gate, or a comparison of one: {REMEDY}.")
        if self.passed != all(gate.passed for gate in self.gates.values()):
            raise InputError(f"{name}: the verdict contradicts its gates: {REMEDY}.")
        for letter, gate in self.gates.items():
            follows = all(check.passed for check in gate.checks)
            if gate.passed != follows or any(not check.makes_sense or check.gate != letter for check in gate.checks):
                raise InputError(f"{name}: gate {letter} contradicts its comparisons: {REMEDY}.")
