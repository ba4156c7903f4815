import json

import pytest

from logos_pl.gates.gates import evaluate_gates
from logos_pl.gates.kpis import measure
from logos_pl.gates.measurements import PromptMeasurements, TextMeasurements
from logos_pl.gates.report import GateReport, TableRow
from tests.gates.lens_suite import WORSE_BITS, altered, prompt, ranks, text


def report(
    prompts: list[PromptMeasurements] | None = None, held_out: TextMeasurements | None = None, num_blocks: int = 32
) -> GateReport:
    prompts = [prompt(f"p{i}", num_blocks=num_blocks) for i in range(10)] if prompts is None else prompts
    kpis = measure(prompts, text(num_blocks=num_blocks) if held_out is None else held_out, num_blocks)
    return GateReport(kpis, evaluate_gates(kpis))


@pytest.mark.parametrize("case", ["good", "empty", "broken"])
def test_it_is_valid_json_without_nan_whatever_was_measured(case: str) -> None:
    broken = prompt("broken", last=float("nan"))
    found = {"good": report(), "empty": report([], text(sequences=0)), "broken": report([broken])}[case].to_plain()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["schema_version"] == 1


def test_the_file_holds_every_figure_with_its_interval_and_its_number_of_prompts() -> None:
    found = report().to_plain()
    kpis = found["kpis"]
    assert list(kpis["median_delta_kl_bits"]) == ["norm", "norm_tau", "bias"]
    for sets in kpis["median_delta_kl_bits"].values():
        assert {where: list(deltas) for where, deltas in sets.items()} == {
            "suite": ["25", "50", "75"],
            "held_out_text": ["25", "50", "75"],
        }
    assert kpis["median_delta_kl_bits"]["norm_tau"]["suite"]["50"]["to_final"] == {
        "estimate": pytest.approx(0.6),
        "low": pytest.approx(0.6),
        "high": pytest.approx(0.6),
        "num": 10,
    }
    for rank in (10, 5, 1):
        assert kpis[f"earliness_shift_first_rank_le_{rank}"]["estimate"] == 10.0
    assert kpis["last_layer_kl_after_temp_bits"]["num"] == kpis["rank1_coverage_gain"]["num"] == 10
    assert found["rows_at_depth"] == {"25": 8, "50": 16, "75": 24}
    assert found["prompts"]["given"] == 10
    assert found["acceptance"]["gates"]["A"]["passed"] is True
    assert len(found["acceptance"]["gates"]["A"]["checks"]) == 6


def test_a_pass_without_remark_has_none() -> None:
    assert report().acceptance()["remarks"] == []
    assert report().summary() == "all gates passed"


def test_directions_that_disagree_are_remarked_on_for_the_set_and_depth() -> None:
    prompts = [altered(prompt(f"p{i}"), "norm", "kl_from_final_bits", 16, 2.5) for i in range(10)]
    found = report(prompts)
    assert found.verdict.passed
    assert found.acceptance()["remarks"] == [
        "At 50% depth over prompts, the two directions of KL disagree on which lens is closer."
    ]


def test_scaled_thresholds_are_remarked_on() -> None:
    assert report(num_blocks=24).acceptance()["remarks"] == [
        "The model has 24 blocks: gate B's thresholds are scaled from 4 and 2 rows in 32 blocks to 3 and 1.5."
    ]


def test_a_calibration_only_lens_is_told_what_it_does_not_beat() -> None:
    found = report(held_out=text(worse_bits=WORSE_BITS | {"bias": 0.0}))
    assert found.acceptance()["calibration_only"] is True
    assert found.acceptance()["remarks"] == [
        "The lens is calibration-only: it beats the norm lens, but not a lens with bias and temperature only."
    ]
    assert found.summary() == "all gates passed; calibration-only"


def test_who_is_left_out_or_cannot_pass_is_remarked_on_and_named_in_the_file() -> None:
    at = ranks(32, {1: 2}, 1)
    prompts = [
        *(prompt(f"p{i}") for i in range(10)),
        prompt("merged", status="unresolved"),
        prompt("early", norm=at, tuned=at),
        prompt("last", last=0.3),
    ]
    found = report(prompts)
    assert found.to_plain()["prompts"]["left_out"]["answer_unresolved"] == ["merged"]
    assert found.acceptance()["gate_b_prompts_that_cannot_pass"] == 1
    assert found.acceptance()["remarks"] == [
        "1 of 12 prompts count against gate B by construction: the norm lens finds their answer too early for any lens "
        "to be that many rows earlier.",
        "For some prompt, the last row is 0.3 bits from the model's output after temperature.",
        "1 prompt(s) left out, as the answer merges with the prompt's last token.",
    ]


def test_every_reason_to_leave_a_prompt_out_has_words() -> None:
    prompts = [
        prompt("merged", status="unresolved"),
        prompt("open", status="none"),
        prompt("never", final_rank=99),
        prompt("broken", last=float("inf")),
    ]
    assert len([text for text in report(prompts).acceptance()["remarks"] if text.startswith("1 prompt(s)")]) == 6


def test_the_table_has_a_row_per_comparison_with_margin_and_verdict() -> None:
    rows = report([prompt(f"p{i}", last=0.08) for i in range(10)]).table()
    assert [row.gate for row in rows] == list("AAAAAABCDD")
    assert rows[0] == TableRow(
        "A",
        "median ΔKL, prompts, 25%",
        "1.000 [1.000, 1.000]",
        "≥ 0.200",
        "+0.800",
        "passed",
    )
    assert rows[6][2:] == ("100% [100%, 100%]", "≥ 60%", "+40%", "passed")
    assert rows[7][2:] == ("0.080 [0.080, 0.080]", "≤ 0.050", "-0.030", "not passed")


def test_a_gate_that_is_not_decidable_says_so_in_the_table_and_the_summary() -> None:
    found = report([], text(sequences=0))
    assert found.table()[0][2:] == ("–", "≥ 0.200", "–", "undecided")
    assert "Gate A is undecided: 0 prompts, where 6 are needed." in found.acceptance()["remarks"]
    assert found.summary() == "gate(s) A, B, C, D not passed"


def test_every_baseline_is_reported_with_its_gain_and_whether_it_is_beaten() -> None:
    rows = report([prompt(f"p{i}") for i in range(10)]).baselines()
    assert [row[0] for row in rows] == [
        "the norm lens",
        "the norm lens with one temperature per row",
        "a lens with bias and temperature only",
    ]
    assert all(row[1].count(".") == 3 for row in rows)
    assert {row[2] for row in rows} <= {"beaten", "not beaten"}
    assert {row[2] for row in report([], text(sequences=0)).baselines()} == {"undecided"}
