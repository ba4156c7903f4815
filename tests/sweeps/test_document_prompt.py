import math
from dataclasses import replace
from typing import Any

import pytest

from logos_pl.data.prompt_types import AnswerTokens
from logos_pl.sweeps.document import OutputBuilder
from logos_pl.sweeps.records import LastRowCheck, NonFinite, PairRow, TopToken
from tests.sweeps.documents import CONTROL, FALLING, FILES, LAST_RANK_1, document
from tests.sweeps.made_records import made_attribution, prompt_records


def pairs(**changes: dict[int, Any]) -> tuple[PairRow, ...]:
    """Rows 0 to 8 that agree, but for what is changed: field to row to value."""
    rows = [PairRow(layer, 0.1, True, 1.0, 5, 5) for layer in range(9)]
    return tuple(
        row._replace(**{name: at[row.layer] for name, at in changes.items() if row.layer in at}) for row in rows
    )


def test_the_final_prediction_is_the_last_row_with_the_entropy_of_the_model() -> None:
    last = {
        "top": (TopToken(7, " Berlin", 0.75), TopToken(9, " the", 0.125)), "rest_mass": 0.125, "p_answer": 0.75,
        "answer_rank": 1, "answer_nll_bits": 0.5, "entropy_bits": 3.0, "teacher_entropy_bits": 1.5,
    }  # fmt: skip
    plain = document(prompt_records({"norm": FALLING}, rows={"norm": {8: last}}))

    assert plain["final_prediction"] == [
        {
            "prompt_id": "pos", "prompt_variant": "orig",
            "top": [{"id": 7, "token": " Berlin", "p": 0.75}, {"id": 9, "token": " the", "p": 0.125}],
            "rest_mass": 0.125, "p_answer": 0.75, "answer_rank": 1, "answer_nll_bits": 0.5, "entropy_bits": 1.5,
        }
    ]  # fmt: skip


def test_milestones_are_rows_and_fractions_of_the_blocks_under_every_lens() -> None:
    record = prompt_records({"norm": FALLING, "tuned": (0.9, *FALLING[1:])}, rows={"norm": LAST_RANK_1})
    found = document(record)["diagnostics"][0]["milestones"]

    assert found["norm"]["L_semantic"] == {"row": 8, "frac": 1.0}
    assert found["norm"]["first_kl_below_1.0"] == {"row": 7, "frac": 0.875}
    assert found["norm"]["L_copy"] == {"row": None, "frac": None}
    assert found["tuned"]["first_kl_below_1.0"] == {"row": 0, "frac": 0.0}
    assert found["norm"]["delta_layers"] is None


def raw_check(norm_to_raw: tuple[PairRow, ...], raw_lens: str = "sample") -> dict[str, Any]:
    record = prompt_records({"norm": FALLING[: len(norm_to_raw)]})._replace(norm_to_raw=norm_to_raw)
    builder = OutputBuilder(raw_lens)
    builder.add(record._replace(final_to_next=None))
    found: dict[str, Any] = builder._diagnostics[0]["raw_versus_norm"]
    return found


def test_the_raw_lens_is_listed_at_four_rows_or_at_all() -> None:
    found = raw_check(pairs(kl_bits={2: 0.3, 7: 9.0}, answer_rank_a={2: 4}, top1_agree={2: False}))

    assert [row["layer"] for row in found["rows"]] == [0, 2, 4, 6]
    assert found["rows"][1] == {
        "layer": 2, "kl_norm_to_raw_bits": 0.3, "top1_agree": False, "answer_rank_norm": 4, "answer_rank_raw": 5,
    }  # fmt: skip
    assert (found["mode"], found["max_kl_norm_vs_raw_bits"], found["lens_artifact_risk"]) == ("sample", 0.3, "low")
    full = raw_check(pairs(kl_bits={2: 0.3, 7: 9.0}), "full")
    assert [row["layer"] for row in full["rows"]] == list(range(9))
    assert (full["mode"], full["max_kl_norm_vs_raw_bits"], full["lens_artifact_risk"]) == ("full", 9.0, "high")


@pytest.mark.parametrize(
    ("num_blocks", "rows"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (7, [0, 1, 3, 5]), (32, [0, 8, 16, 24])]
)
def test_the_four_rows_of_a_shallow_model_are_listed_once_each(num_blocks: int, rows: list[int]) -> None:
    record = prompt_records({"norm": [1.0] * (num_blocks + 1)})
    builder = OutputBuilder()
    builder.add(record)

    assert [row["layer"] for row in builder._diagnostics[0]["raw_versus_norm"]["rows"]] == rows


@pytest.mark.parametrize(
    ("kl_bits", "risk"), [(0.4999, "low"), (0.5, "medium"), (0.9999, "medium"), (1.0, "high"), (math.nan, "high")]
)
def test_the_risk_of_an_artifact_goes_by_the_largest_divergence(kl_bits: float, risk: str) -> None:
    assert raw_check(pairs(kl_bits={4: kl_bits}))["lens_artifact_risk"] == risk


def test_a_divergence_that_is_not_finite_counts_for_no_maximum() -> None:
    assert raw_check(pairs(kl_bits={0: math.nan, 4: 0.3}))["max_kl_norm_vs_raw_bits"] == 0.3
    nothing = raw_check(pairs(kl_bits=dict.fromkeys(range(9), math.inf)))
    assert (nothing["max_kl_norm_vs_raw_bits"], nothing["lens_artifact_risk"]) == (None, "high")


def test_an_answer_only_the_norm_lens_puts_first_is_high_risk_whichever_rows_are_listed() -> None:
    both, norm_only = {3: 1}, {3: 1, 5: 1, 7: 1}
    for mode in ("sample", "full"):
        found = raw_check(pairs(answer_rank_a=norm_only, answer_rank_b=both), mode)
        assert (found["first_norm_only_semantic_layer"], found["lens_artifact_risk"]) == (5, "high")
    assert raw_check(pairs(answer_rank_a=both, answer_rank_b=both))["first_norm_only_semantic_layer"] is None
    assert raw_check(pairs(answer_rank_b=norm_only))["lens_artifact_risk"] == "low"


@pytest.mark.parametrize(("kl_bits", "warns"), [(0.0, False), (0.05, False), (0.0501, True), (math.nan, True)])
def test_a_last_row_that_is_not_the_models_output_is_warned_of(kl_bits: float, warns: bool) -> None:
    check = LastRowCheck(kl_bits, True, 1.5, 0.001)
    found = document(prompt_records({"norm": FALLING})._replace(last_row=check))["diagnostics"][0]["last_row"]

    assert found == {
        "kl_to_final_bits": None if math.isnan(kl_bits) else kl_bits, "top1_agree": True, "temp_est": 1.5,
        "kl_after_temp_bits": 0.001, "warn_high_last_layer_kl": warns,
    }  # fmt: skip


def test_decoding_norms_are_compared_at_the_milestone_rows_alone() -> None:
    rows: dict[int, dict[str, object]] = {
        5: {"answer_rank": 3, "copy_soft": (False, True, False), "copy_at": (True, False, False, False)},
        7: {"answer_rank": 1, "is_answer": True},
        8: {"copy_collapse": True},
    }
    nexts = pairs(kl_bits={5: 2.0, 7: 1.0}, top1_agree={5: False}, top10_jaccard={5: 0.25}, answer_rank_b={5: 40})
    record = prompt_records({"norm": FALLING, "tuned": [0.0] * 9}, rows={"norm": rows})._replace(final_to_next=nexts)
    found = document(record)["diagnostics"][0]["decoding_point"]

    assert found["reason"] is None
    assert [row["layer"] for row in found["rows"]] == [5, 7, 8]
    assert found["rows"][0] == {
        "layer": 5, "milestones": ["L_copy_soft[2]", "L_copy_at[0.70]", "first_rank_le_5", "first_rank_le_10"],
        "kl_final_to_next_bits": 2.0, "top1_agree": False, "top10_jaccard": 0.25, "answer_rank_final": 5,
        "answer_rank_next": 40,
    }  # fmt: skip
    assert found["rows"][1]["milestones"] == ["L_semantic", "first_rank_le_1", "first_kl_below_1.0"]
    assert found["rows"][2]["milestones"] == ["L_copy", "first_kl_below_0.5"]


def test_a_decoding_comparison_that_is_missing_says_why() -> None:
    without = prompt_records({"norm": FALLING})._replace(final_to_next=None)
    assert document(without)["diagnostics"][0]["decoding_point"] == {
        "rows": None,
        "reason": "This model has no norm to use for decoding_norm next.",
    }
    nothing_reached = prompt_records({"norm": [9.0] * 9})
    assert document(nothing_reached)["diagnostics"][0]["decoding_point"] == {
        "rows": [],
        "reason": "No milestone was reached.",
    }


def test_what_is_not_finite_is_null_and_named_by_lens_and_row() -> None:
    places = [NonFinite("norm", 2, 3), NonFinite("norm", 2, 1), NonFinite("tuned", 2, 3), NonFinite("norm", 4, 0)]
    broken = {8: {"p_answer": math.nan, "top": (TopToken(0, "a", math.inf),), "rest_mass": -math.inf}}
    plain = document(prompt_records({"norm": FALLING}, rows={"norm": broken}, nonfinite=places))

    assert plain["diagnostics"][0]["nonfinite"] == [
        {"lens": "norm", "layer": 2, "first_pos": 1, "num_positions": 2},
        {"lens": "tuned", "layer": 2, "first_pos": 3, "num_positions": 1},
        {"lens": "norm", "layer": 4, "first_pos": 0, "num_positions": 1},
    ]
    final = plain["final_prediction"][0]
    assert (final["p_answer"], final["rest_mass"], final["top"][0]["p"]) == (None, None, None)


def test_a_logit_taken_apart_stands_beside_the_models_own() -> None:
    decomposition = made_attribution({"embedding": 0.5, "attn_1": 2.0, "mlp_1": -1.0, "rounding": 0.25}, margin=3.0)
    decomposition = decomposition._replace(model_logit_nats=1.5, model_margin_nats=5.5, capped_logit_nats=1.25)
    control = prompt_records({"norm": FALLING}, prompt=CONTROL)._replace(attribution=decomposition)
    files = replace(FILES, decomposition="output-Tiny-8-decomposition.csv")
    plain = document(control, prompt_records({"norm": FALLING}), files=files)

    assert plain["run"]["files"]["decomposition"] == "output-Tiny-8-decomposition.csv"
    assert plain["decomposition"] == [
        {
            "prompt_id": "ctl", "prompt_variant": "orig", "token_id": 7, "token": " Berlin", "contrast_id": 3,
            "contrast": " Paris", "norm_scale": 0.125, "total_nats": 1.75, "model_logit_nats": 1.5, "error_nats": 0.25,
            "rounding_nats": 0.25, "capped_logit_nats": 1.25, "total_margin_nats": 5.25, "model_margin_nats": 5.5,
        }
    ]  # fmt: skip


def test_a_prompt_that_could_not_be_taken_apart_says_why_and_stands_in_no_sum() -> None:
    left_out = prompt_records({"norm": FALLING})._replace(not_attributed="More than rounding is missing.")
    plain = document(left_out, prompt_records({"norm": FALLING}, prompt=CONTROL))
    assert plain["decomposition"] == []
    assert [entry["not_decomposed"] for entry in plain["diagnostics"]] == ["More than rounding is missing.", None]


def test_a_control_prompt_says_what_is_set_against_what_and_how_it_comes_out() -> None:
    margins = {0: math.nan, 1: -0.5, 2: 0.0, 3: 0.25, 4: 0.5, 5: 0.5, 6: -0.125}
    rows = {row: {"control_margin": margin} for row, margin in margins.items()}
    contrast = AnswerTokens("resolved", "no_space", (1, 2), ("Ber", "lin"))
    control = prompt_records({"norm": FALLING, "tuned": FALLING}, rows={"norm": rows}, prompt=CONTROL)
    plain = document(prompt_records({"norm": FALLING}), control._replace(contrast=contrast))

    assert plain["control_prompt"] == [
        {
            "prompt_id": "ctl", "prompt_variant": "orig", "fact": "France → Paris", "text": "Paris is simply",
            "gold_answer": {
                "answer": "Paris", "status": "resolved", "variant": "with_space", "first_id": 7, "answer_ids": [7],
                "pieces": [" Berlin"],
            },
            "contrast_answer": {
                "answer": "Berlin", "status": "resolved", "variant": "no_space", "first_id": 1, "answer_ids": [1, 2],
                "pieces": ["Ber", "lin"],
            },
        }
    ]  # fmt: skip
    name = {"prompt_id": "ctl", "prompt_variant": "orig"}
    none = dict.fromkeys(("first_control_margin_pos", "max_control_margin", "max_control_margin_layer"))
    assert plain["control_summary"] == [
        {
            **name,
            "lens": "norm",
            "first_control_margin_pos": 3,
            "max_control_margin": 0.5,
            "max_control_margin_layer": 4,
        },
        {**name, "lens": "tuned", **none},
    ]
