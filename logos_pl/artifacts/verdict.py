"""What the gates found and decided on a lens, named as in ``gates.json`` and ``provenance.json``."""

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
        num: Samples it is of.
    """

    estimate: float
    low: float
    high: float
    num: int


@dataclass(frozen=True)
class DeltaKl:
    """How much closer a lens is to the model than a baseline, in both directions of the KL divergence.

    Attributes:
        to_final: Of KL(P_row ‖ P_final), which decides.
        from_final: Of KL(P_final ‖ P_row).
        signs_agree: Whether both say the same.
    """

    to_final: Figure
    from_final: Figure
    signs_agree: bool


@dataclass(frozen=True)
class SkipLayers:
    """Perplexity of held-out text where a translator stands for the last m blocks.

    Attributes:
        num_tokens: Tokens it is over.
        perplexity: By m; 0 is the model itself. None beyond the range of a float.
        not_applicable: By m, why it was not measured.
    """

    num_tokens: int
    perplexity: dict[Literal["0", "2", "4", "8"], float | None]
    not_applicable: dict[Literal["2", "4", "8"], str]


@dataclass(frozen=True)
class Kpis:
    """The figures of the gates; None where there were no samples.

    Attributes:
        median_delta_kl_bits: By baseline, by `suite` or `held_out_text`, by depth percentile.
        held_out_gain_bits: By baseline.
        earliness_shift_first_rank_le_10: Rows by which answers are found earlier at rank 10 or better.
        earliness_shift_first_rank_le_5: At rank 5 or better.
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
        gate: Its gate.
        what: What is compared, in words.
        unit: Of the figure and the threshold.
        measured: The figure; None without samples.
        threshold: What it is compared with.
        margin: By how much it is on the right side; None without samples.
        passed: Whether it holds.
        reason: Why it is not decidable; None where it is.
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
        """Whether it passes exactly where it is decidable and the margin is not negative."""
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
        facts: Prompts in it that were asked.
        dataset: Held-out text: Hub id, or the name of a local folder or file.
        name: Configuration of the data set, or None.
        split: Its split.
        revision: Tag or commit, or None for local files.
        held_out_frac: Share of its documents that was held out for test.
        sequences: Sequences of it that were read.
        seq_len: Tokens per sequence.
        positions_per_seq: Positions read per sequence.
        position_range: The part of the context they are drawn from, as fractions.
        device: What the model ran on.
        dtype: Number format it ran in.
    """

    suite: str
    suite_sha256: str
    facts: int
    dataset: str
    name: str | None
    split: str
    revision: str | None
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
        calibration_only: Whether only the norm lens is beaten; None where this is not decidable.
        gates: By name.
        beats: By baseline, whether it is beaten; None where this is not decidable.
        min_gain_bits: Gain from which on a baseline is beaten.
        min_samples: Samples from which on a figure decides.
        gate_b_rows: Thresholds of gate B in rows, by rank.
        gate_b_prompts_that_cannot_pass: Prompts that no lens could pass.
        remarks: What a reader has to know besides the verdict.
        evaluated_on: Text and prompts.
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
            InputError: It does not; named.
        """
        if len(self.gates) != len(get_args(GateName)) or not all(gate.checks for gate in self.gates.values()):
            raise InputError(f"{name} lacks a gate, or a comparison of one: {REMEDY}.")
        if self.passed != all(gate.passed for gate in self.gates.values()):
            raise InputError(f"{name}: the verdict is not what its gates say: {REMEDY}.")
        for letter, gate in self.gates.items():
            follows = all(check.passed for check in gate.checks)
            if gate.passed != follows or any(not check.makes_sense or check.gate != letter for check in gate.checks):
                raise InputError(f"{name}: gate {letter} is not what its comparisons say: {REMEDY}.")
