"""Verdicts of the gates for the tests of artifacts."""

import json
from dataclasses import asdict
from typing import Any

from logos_pl.artifacts.filenames import GATE_FILES, GATES_FILE
from logos_pl.artifacts.verdict import Acceptance, Check, DeltaKl, EvaluatedOn, Figure, Gate, Kpis, SkipLayers

GAIN = Figure(estimate=0.25, low=0.0, high=0.5, num=7)


def make_kpis() -> Kpis:
    """Figures of which some were not measured."""
    return Kpis(
        median_delta_kl_bits={"norm": {"suite": {"25": DeltaKl(GAIN, GAIN, True), "50": None}}},
        held_out_gain_bits={"norm": GAIN, "norm_tau": GAIN, "bias": None},
        earliness_shift_first_rank_le_10=GAIN,
        earliness_shift_first_rank_le_5=GAIN,
        earliness_shift_first_rank_le_1=None,
        last_layer_kl_after_temp_bits=GAIN,
        last_layer_kl_after_temp_bits_max=0.5,
        rank1_coverage_gain=GAIN,
        skip_layers=SkipLayers(100, {"0": 3.25, "2": None}, {"4": "too short", "8": "too short"}),
    )


def make_acceptance(passed: bool) -> Acceptance:
    """A verdict whose gates all say the same."""
    measured = Figure(estimate=0.4567, low=0.1, high=0.9, num=7)
    margin = 0.2567 if passed else -0.2567
    gates = {
        letter: Gate(
            passed, [Check(letter, "median ΔKL, prompts, 25% depth", "bits", measured, 0.2, margin, passed, None)]
        )
        for letter in ("A", "B", "C", "D")
    }
    on = EvaluatedOn(
        suite="facts.yaml", suite_sha256="a" * 64, facts=94, dataset="org/text", name=None, split="train",
        revision=None, format="text", special_tokens="auto", held_out_frac=0.02, sequences=208, seq_len=512,
        positions_per_seq=16, position_range=(0.5, 1.0), device="cpu", dtype="float32",
    )  # fmt: skip
    return Acceptance(
        passed=passed,
        calibration_only=False,
        gates=gates,
        beats={"norm": True, "norm_tau": passed, "bias": None},
        min_gain_bits=0.02,
        min_samples=6,
        gate_b_rows={"rank_le_10": 1.0, "rank_le_5": 1.0},
        gate_b_prompts_that_cannot_pass=0,
        remarks=["The model has 4 blocks."],
        evaluated_on=on,
    )


def gates_document(passed: bool, model_id: str = "org/tiny", model_commit: str = "c0ffee") -> dict[str, Any]:
    """What ``gates.json`` holds, as far as an artifact reads it."""
    return {
        "schema_version": 1,
        "model": {"model_id": model_id, "model_commit": model_commit},
        "acceptance": asdict(make_acceptance(passed)),
        "kpis": asdict(make_kpis()),
    }


def gate_files(mark: bytes = b"", passed: bool = True, **model: str) -> dict[str, bytes]:
    """What a test leaves beside the lens; all but the verdict are marked by their names."""
    others = {name: name.encode() + mark for name in GATE_FILES if name != GATES_FILE}
    return {GATES_FILE: json.dumps(gates_document(passed, **model)).encode() + mark, **others}
