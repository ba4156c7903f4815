import gc
import json
import math
import pickle
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_type_hints

import pytest
from jsonschema import Draft202012Validator, ValidationError

from logos_pl.artifacts.provenance_schema import Environment
from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.errors import InputError
from logos_pl.sweep import document_schema
from logos_pl.sweep.document import ABSOLUTE_PATH, SCHEMA_FILE, OutputBuilder, failed_output, skipped_output, to_json
from logos_pl.sweep.document_schema import (
    Files,
    ImportedLensOrigin,
    ModelIdentity,
    ModelStats,
    Output,
    RunFacts,
    TunedLensOrigin,
)
from logos_pl.sweep.document_summaries import PackedValues, prism_verdict
from logos_pl.sweep.records import LastRowCheck, NonFinite, PairRow, PromptRecords, TopToken
from tests.sweep.made_records import made_decomposition, prompt_records

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
MODEL = ModelIdentity("org/Tiny-8", "Tiny-8", "a" * 40, "b" * 40)
ENVIRONMENT = Environment("2.13.0", "5.23.0", "2.6.6", "cuda:0 (NVIDIA H200)")
START = datetime(2025, 3, 1, 12, 0, 59, tzinfo=UTC)
FACTS = RunFacts(
    START,
    START + timedelta(seconds=2.5),
    "0.1.0",
    "c" * 40 + "-dirty",
    "cuda",
    "bf16",
    "final",
    ENVIRONMENT,
    "float32",
    0.9,
    0.05,
)
UNKNOWN = RunFacts(START, START, "0.1.0", None, None, None, None, None)
FILES = Files(
    records={"norm": "output-Tiny-8-records.csv", "tuned": "output-Tiny-8-records-tuned.csv"},
    next_token={"norm": "output-Tiny-8-pure-next-token.csv"},
    decomposition=None,
    plots=["output-Tiny-8-kl.png"],
    page="output-Tiny-8.html",
    report=None,
)
STATS = ModelStats("LlamaForCausalLM", 8_000, 8, 16, 100, None, True, "rms", None, 1.0, "d" * 64)
ORIGIN = TunedLensOrigin(
    "org/Tiny-8", "a" * 40, "0.1.0", None, "final", "random", 316, 4, 32_000_000, 1954, "e" * 64, None
)
IMPORTED = ImportedLensOrigin("org/Tiny-8", "main", "float16", None, "f" * 64)
FALLING = (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 0.9, 0.0)
NO_FILLER = Prompt("pos", "no_filler", "Berlin is", "Berlin", None, "Germany → Berlin", "capital")
CONTROL = Prompt("ctl", "orig", "Paris is simply", "Paris", "Berlin", "France → Paris", "capital")
LAST_RANK_1 = {8: {"answer_rank": 1, "is_answer": True}}


def document(
    *records: PromptRecords,
    raw_lens: Any = "sample",
    tuned: TunedLensOrigin | None = None,
    imported: ImportedLensOrigin | None = None,
    files: Files = FILES,
) -> dict[str, Any]:
    """The document of a sweep as it is read back from the file, after the schema has passed it."""
    builder = OutputBuilder(raw_lens)
    for record in records:
        builder.add(record)
    return read_back(builder.finish(MODEL, FACTS, files, STATS, tuned, imported))


def read_back(output: Output) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(to_json(output))
    Draft202012Validator(SCHEMA).validate(plain)
    return plain


def pairs(**changes: dict[int, Any]) -> tuple[PairRow, ...]:
    """Rows 0 to 8 that agree, but for what is changed: field to row to value."""
    rows = [PairRow(layer, 0.1, True, 1.0, 5, 5) for layer in range(9)]
    return tuple(
        row._replace(**{name: at[row.layer] for name, at in changes.items() if row.layer in at}) for row in rows
    )


def test_a_sweep_says_what_was_asked_of_which_model_and_how() -> None:
    plain = document(prompt_records({"norm": FALLING})._replace(left_out=("<s>",)))

    assert list(plain) == [
        "schema_version", "status", "reason", "model", "run", "model_stats", "prompts", "gold_answer", "diagnostics",
        "final_prediction", "ablation_summary", "control_prompt", "control_summary", "decomposition", "tuned_lens",
        "prism_summary", "imported_lens",
    ]  # fmt: skip
    assert (plain["schema_version"], plain["status"], plain["reason"]) == (1, "ok", None)
    assert plain["run"] == {
        "started_utc": "2025-03-01T12:00:59Z", "finished_utc": "2025-03-01T12:01:01Z", "seconds": 2.5,
        "project_version": "0.1.0", "git_sha": "c" * 40 + "-dirty", "device": "cuda", "dtype": "bf16",
        "unembed_dtype": "float32", "decoding_norm": "final", "copy_threshold": 0.9, "copy_margin": 0.05,
        "lenses": ["norm"], "preferred_lens": "norm", "num_prompts": 1,
        "environment": {
            "torch": "2.13.0", "transformers": "5.23.0", "lightning": "2.6.6", "device": "cuda:0 (NVIDIA H200)",
        },
        "files": {
            "records": {"norm": "output-Tiny-8-records.csv", "tuned": "output-Tiny-8-records-tuned.csv"},
            "next_token": {"norm": "output-Tiny-8-pure-next-token.csv"}, "decomposition": None,
            "plots": ["output-Tiny-8-kl.png"], "page": "output-Tiny-8.html", "report": None,
        },
    }  # fmt: skip
    assert plain["prompts"] == [
        {
            "prompt_id": "pos", "prompt_variant": "orig", "fact": "Germany → Berlin", "relation": "capital",
            "text": "Berlin is simply", "answer": "Berlin", "contrast": None, "ids": [0, 1, 2, 3],
            "tokens": ["<s>", "Berlin", " is", " simply"], "special_tokens_left_out": ["<s>"],
        }
    ]  # fmt: skip
    assert plain["gold_answer"] == [
        {
            "prompt_id": "pos", "prompt_variant": "orig", "answer": "Berlin", "status": "resolved",
            "variant": "with_space", "first_id": 7, "answer_ids": [7], "pieces": [" Berlin"],
        }
    ]  # fmt: skip
    assert plain["model_stats"]["context_length"] is None
    assert (plain["tuned_lens"], plain["prism_summary"], plain["imported_lens"]) == (None, None, None)
    assert (plain["ablation_summary"], plain["control_prompt"], plain["control_summary"]) == ([], [], [])


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
        "reason": "No norm of this model reads the rows next.",
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


def test_an_ablation_is_summed_up_where_both_variants_were_asked() -> None:
    rows = {2: {"copy_collapse": True}, 6: {"is_answer": True}}
    orig = prompt_records({"norm": FALLING, "tuned": FALLING}, rows={"norm": rows})
    bare_rows = {1: {"copy_collapse": True}, 4: {"is_answer": True}}
    bare = prompt_records({"norm": FALLING, "tuned": FALLING}, rows={"norm": bare_rows}, prompt=NO_FILLER)
    alone = prompt_records({"norm": FALLING}, prompt=CONTROL)
    orphan = prompt_records({"norm": FALLING}, prompt=NO_FILLER._replace(prompt_id="orphan"))

    for records in ((orig, bare, alone, orphan), (bare, orphan, orig, alone)):
        norm, tuned = document(*records)["ablation_summary"]
        assert norm == {
            "prompt_id": "pos", "fact": "Germany → Berlin", "lens": "norm", "L_copy_orig": 2, "L_copy_no_filler": 1,
            "delta_L_copy": -1, "L_semantic_orig": 6, "L_semantic_no_filler": 4, "delta_L_semantic": -2,
        }  # fmt: skip
        assert (tuned["lens"], tuned["delta_L_copy"], tuned["delta_L_semantic"]) == ("tuned", None, None)


def test_a_logit_taken_apart_stands_beside_the_models_own() -> None:
    decomposition = made_decomposition({"embedding": 0.5, "attn_1": 2.0, "mlp_1": -1.0, "rounding": 0.25}, margin=3.0)
    decomposition = decomposition._replace(model_logit_nats=1.5, model_margin_nats=5.5, capped_logit_nats=1.25)
    control = prompt_records({"norm": FALLING}, prompt=CONTROL)._replace(decomposition=decomposition)
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
    left_out = prompt_records({"norm": FALLING})._replace(not_decomposed="More than rounding is missing.")
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


def with_tuned(
    prompt_id: str, gains: tuple[float, float, float], final_rank: int | None, earlier: int
) -> PromptRecords:
    """A prompt on which the tuned lens is ahead by `gains` bits at rows 2, 4, 6 and reaches rank ≤ 10 in row 3."""
    tuned = list(FALLING)
    for row, gain in zip((2, 4, 6), gains, strict=True):
        tuned[row] -= gain
    rows = {
        "norm": {3 + earlier: {"answer_rank": 10}, 8: {"answer_rank": final_rank}},
        "tuned": {3: {"answer_rank": 10}, 8: {"answer_rank": final_rank}}
        | {
            row: {"kl_from_final_bits": FALLING[row] + 1 - 2 * gain} for row, gain in zip((2, 4, 6), gains, strict=True)
        },
    }
    prompt = Prompt(prompt_id, "orig", "text", "answer")
    return prompt_records({"norm": FALLING, "tuned": tuned}, rows=rows, prompt=prompt)


def test_the_tuned_lens_is_summed_up_by_medians_over_the_prompts_that_qualify() -> None:
    plain = document(
        with_tuned("a", (1.0, 0.5, -0.25), 1, earlier=2),
        with_tuned("b", (2.0, 0.5, -0.25), 5, earlier=3),
        with_tuned("c", (4.0, 1.5, math.nan), 11, earlier=4),  # the model itself does not get the answer within ten
        with_tuned("d", (8.0, 2.5, math.inf), None, earlier=0),
        tuned=ORIGIN,
    )
    summaries = plain["tuned_lens"]["summaries"]

    assert plain["run"]["lenses"] == ["norm", "tuned"]
    assert plain["tuned_lens"]["provenance"]["weights_sha256"] == "e" * 64
    assert [tuple(each.values()) for each in summaries["delta_kl"]] == [
        (25, 2, 3.0, 6.0, 4),
        (50, 4, 1.0, 2.0, 4),
        (75, 6, -0.25, -0.5, 2),
    ]
    assert [tuple(each.values()) for each in summaries["earliness_shift"]] == [
        ("first_rank_le_10", 2.5, 2),
        ("first_rank_le_5", 0.0, 2),
        ("first_rank_le_1", 0.0, 1),
    ]


def test_an_imported_lens_is_summed_up_in_the_same_way_beside_the_tuned_one() -> None:
    worse = [bits + 1.0 for bits in FALLING]
    records = prompt_records({"norm": FALLING, "tuned": FALLING, "imported": worse}, rows={"norm": LAST_RANK_1})
    plain = document(records, tuned=ORIGIN, imported=IMPORTED)

    assert plain["imported_lens"]["origin"]["params_sha256"] == "f" * 64
    assert [each["median_delta_kl_bits"] for each in plain["imported_lens"]["summaries"]["delta_kl"]] == [-1.0] * 3
    assert [each["median_delta_kl_bits"] for each in plain["tuned_lens"]["summaries"]["delta_kl"]] == [0.0] * 3
    assert document(prompt_records({"norm": FALLING, "tuned": FALLING}), tuned=ORIGIN)["imported_lens"] is None


def test_a_tuned_lens_without_any_prompt_has_no_medians() -> None:
    summaries = document(tuned=ORIGIN)["tuned_lens"]["summaries"]

    assert {each["median_delta_kl_bits"] for each in summaries["delta_kl"]} == {None}
    assert {each["num_prompts"] for each in summaries["delta_kl"] + summaries["earliness_shift"]} == {0}


def test_a_tuned_lens_that_read_nothing_has_no_medians_either() -> None:
    plain = document(prompt_records({"norm": FALLING}), tuned=ORIGIN)

    assert plain["run"]["lenses"] == ["norm"]
    assert {each["num_prompts"] for each in plain["tuned_lens"]["summaries"]["delta_kl"]} == {0}


def test_lenses_are_named_in_the_order_in_which_they_were_read() -> None:
    assert document(prompt_records(dict.fromkeys(("norm", "tuned", "prism"), FALLING)))["run"]["lenses"] == [
        "norm",
        "tuned",
        "prism",
    ]


def test_a_model_of_one_block_has_no_row_at_a_depth_percentile() -> None:
    builder = OutputBuilder()
    builder.add(prompt_records({"norm": (1.0, 0.0), "tuned": (1.0, 0.0)}))
    plain = read_back(builder.finish(MODEL, FACTS, FILES, replace(STATS, num_blocks=1), ORIGIN))

    assert plain["tuned_lens"]["summaries"]["delta_kl"] == []


def test_a_prompt_asked_twice_is_refused_by_name() -> None:
    builder = OutputBuilder()
    builder.add(prompt_records({"norm": FALLING}))

    with pytest.raises(InputError, match=r"^The prompt pos \(orig\) was asked twice: give every prompt an id"):
        builder.add(prompt_records({"norm": FALLING}))


def test_nothing_kept_grows_with_rows_times_positions() -> None:
    record = prompt_records({"norm": FALLING})
    everywhere = [NonFinite("norm", 2, pos) for pos in range(999)]
    sizes = []
    for positions, nonfinite in (
        (record.positions, everywhere[:100]),  # their number has as many digits
        ({"norm": record.positions["norm"] * 1000}, everywhere),
    ):
        builder = OutputBuilder()
        builder.add(record._replace(positions=positions, nonfinite=tuple(nonfinite)))
        sizes.append(len(pickle.dumps(builder)))
    assert sizes[0] == sizes[1]

    rows = record.next_token["norm"]
    gc.collect()
    assert not any(isinstance(kept, type(rows[0])) for kept in everything_in(builder))


def everything_in(root: object) -> list[Any]:
    """All that is reachable from an object's own attributes."""
    found, queue = {}, list(vars(root).values())
    while queue:
        kept = queue.pop()
        if id(kept) not in found and isinstance(kept, dict | list | tuple | PackedValues):
            found[id(kept)] = kept
            queue += list(kept.values()) if isinstance(kept, dict) else list(kept)
    return list(found.values())


def test_the_text_is_the_same_every_time_and_survives_any_string() -> None:
    odd = Prompt("pos", "orig", "lone \ud83d \x00 /etc/passwd C:\\x", "\udcff")
    record = prompt_records({"norm": FALLING}, prompt=odd, tokens=("/", "/home/", "\ud83d"))
    texts = []
    for _ in range(2):
        builder = OutputBuilder()
        builder.add(record)
        texts.append(to_json(builder.finish(MODEL, FACTS, FILES, STATS, None)))

    assert texts[0] == texts[1]
    assert texts[0].isascii()
    assert texts[0].endswith("}\n")
    plain = json.loads(texts[0])
    Draft202012Validator(SCHEMA).validate(plain)
    assert plain["prompts"][0]["text"] == odd.text
    assert plain["prompts"][0]["tokens"] == ["/", "/home/", "\ud83d"]


PATHS = (
    "/home/me/x",
    "/tmp",
    "in /data/m.bin, then",
    "'C:\\Users\\me'",
    "~/x",
    "file:///x",
    r"\\server\share",
    "=/a/b",
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_of_this_machine_is_refused_by_the_place_it_would_stand(path: str) -> None:
    builder = OutputBuilder()
    places: dict[str, Output] = {
        "model.model_id": builder.finish(replace(MODEL, model_id=path), FACTS, FILES, STATS, None),
        "run.environment.device": builder.finish(
            MODEL, replace(FACTS, environment=replace(ENVIRONMENT, device=path)), FILES, STATS, None
        ),
        "run.files.plots[1]": builder.finish(MODEL, FACTS, replace(FILES, plots=["a.png", path]), STATS, None),
        "run.files.records": builder.finish(MODEL, FACTS, replace(FILES, records={path: "a.csv"}), STATS, None),
        "model_stats.final_norm": builder.finish(MODEL, FACTS, FILES, replace(STATS, final_norm=path), None),
        "reason": replace(failed_output(MODEL, FACTS, ""), reason=path),
        "tuned_lens.provenance.init": builder.finish(MODEL, FACTS, FILES, STATS, replace(ORIGIN, init=path)),
    }
    for place, output in places.items():
        with pytest.raises(InputError, match="would name a path of this machine") as info:
            to_json(output)
        assert str(info.value).startswith(f"{place} would")


@pytest.mark.parametrize(
    "words", ["org/name", "https://hf.co/org/name", "and/or", "../lens", "./m", "a / b", "sha256:ab/c", "b: c", "1:/"]
)
def test_a_slash_alone_makes_no_path(words: str) -> None:
    assert not ABSOLUTE_PATH.search(words)


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("[Errno 28] No space left on device: '/home/me/out/a.csv'", "[Errno 28] No space left on device: '…/a.csv'"),
        (
            "Cannot write to /mnt/x: Read-only file system; mend it.",
            "Cannot write to …/x: Read-only file system; mend it.",
        ),
        ("C:\\Users\\me\\model and ~/b/ and https://hf.co/org/m", "…/model and …/b and https://hf.co/org/m"),
        ("/home/me is full\n/tmp is, too", "…/me is full\n…/tmp is, too"),
        ("org/m needs 12/34 GB", "org/m needs 12/34 GB"),
    ],
)
def test_a_reason_keeps_the_last_part_of_a_path(reason: str, kept: str) -> None:
    assert read_back(failed_output(MODEL, FACTS, reason))["reason"] == kept


@pytest.mark.parametrize("path", PATHS)
def test_no_reason_keeps_a_failure_from_being_written(path: str) -> None:
    assert read_back(failed_output(MODEL, FACTS, path))["status"] == "failed"


def test_a_model_that_was_skipped_and_one_that_failed_say_so_and_claim_nothing() -> None:
    unknown = ModelIdentity("org/Big", "Big", None, None)
    skipped = read_back(skipped_output(unknown, UNKNOWN, "It needs 140 GB and there are 16."))
    failed = read_back(failed_output(unknown, FACTS, "It failed."))

    assert (skipped["status"], skipped["reason"]) == ("skipped", "It needs 140 GB and there are 16.")
    assert skipped["run"]["device"] is None
    assert skipped["run"]["files"] == {
        "records": {}, "next_token": {}, "decomposition": None, "plots": [], "page": None, "report": None,
    }  # fmt: skip
    assert (failed["status"], failed["model"]["model_id"], failed["run"]["device"]) == ("failed", "org/Big", "cuda")
    for plain in (skipped, failed):
        assert plain["model_stats"] is None
        assert plain["run"]["num_prompts"] == 0
        assert list(plain) == list(document())


def test_times_are_in_utc() -> None:
    moment = datetime(2025, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=5)))
    plain = read_back(skipped_output(MODEL, replace(UNKNOWN, started=moment, finished=moment), "no"))

    assert plain["run"]["started_utc"] == "2025-02-28T20:30:00Z"


def full_document() -> dict[str, Any]:
    control = prompt_records({"norm": FALLING, "tuned": FALLING}, prompt=CONTROL, nonfinite=[NonFinite("norm", 1, 1)])
    control = control._replace(decomposition=made_decomposition({"embedding": 1.0, "rounding": 0.0}))
    rows = {"norm": LAST_RANK_1}
    orig = prompt_records({"norm": FALLING, "tuned": FALLING}, rows=rows)
    bare = prompt_records({"norm": FALLING, "tuned": FALLING, "imported": FALLING}, prompt=NO_FILLER)
    return document(orig, bare, control, tuned=ORIGIN, imported=IMPORTED)


def objects(value: Any) -> list[dict[str, Any]]:
    """All objects in a document, however deep."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [each for item in inner for each in objects(item)] + ([value] if isinstance(value, dict) else [])


BY_LENS = {"norm", "tuned", "prism", "imported"}


def test_the_schema_refuses_every_unknown_and_every_missing_key() -> None:
    validator = Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    plain = full_document()
    assert all(plain[section] for section in plain if section not in ("reason", "prism_summary"))
    kinds = {frozenset(each): each for each in objects(plain)}
    for each in kinds.values():
        each["unknown"] = 1
        with pytest.raises(ValidationError):
            validator.validate(plain)
        del each["unknown"]
        for key in set(each) - BY_LENS:
            value = each.pop(key)
            with pytest.raises(ValidationError):
                validator.validate(plain)
            each[key] = value
    validator.validate(plain)


@pytest.mark.parametrize(
    ("section", "value"),
    [("status", "failed"), ("reason", "why"), ("model_stats", None), ("schema_version", 2), ("status", "done")],
)
def test_the_schema_refuses_a_status_that_does_not_fit(section: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(full_document() | {section: value})


def test_the_schema_names_the_fields_of_the_code() -> None:
    properties = SCHEMA["properties"]
    groups = {
        Output: SCHEMA,
        ModelIdentity: properties["model"],
        document_schema.Run: properties["run"],
        Files: properties["run"]["properties"]["files"],
        Environment: properties["run"]["properties"]["environment"]["anyOf"][0],
        ModelStats: properties["model_stats"]["anyOf"][0],
        TunedLensOrigin: properties["tuned_lens"]["anyOf"][0]["properties"]["provenance"],
        ImportedLensOrigin: properties["imported_lens"]["anyOf"][0]["properties"]["origin"],
    }
    for group, schema in groups.items():
        assert [field.name for field in fields(group)] == list(schema["properties"]) == schema["required"]
    assert set(get_type_hints(Output)) == set(properties)


def test_what_a_report_is_made_of_is_what_the_document_says() -> None:
    builder = OutputBuilder()
    tied = {0: {"identity_row": True}}
    builder.add(prompt_records({"norm": [*FALLING[:4], math.nan, *FALLING[5:]]}, rows={"norm": tied}))
    builder.add(prompt_records({"norm": FALLING, "tuned": FALLING}, prompt=CONTROL))
    output, swept = builder.finish(MODEL, FACTS, FILES, STATS, None), builder.swept()

    for section in ("prompts", "gold_answer", "diagnostics", "final_prediction"):
        assert list(getattr(swept, section)) == getattr(output, section)
        assert getattr(swept, section)[-1:] == [getattr(swept, section)[1]]
    assert swept.lenses == ["norm", "tuned"]
    assert [prompt.identity_row for prompt in swept.summaries] == [True, False]
    kl = [prompt.at_depths["norm"][::4].tolist() for prompt in swept.summaries]
    assert kl[1] == [FALLING[row] for row in (0, 2, 4, 6, 8)]
    assert math.isnan(kl[0][2])
    assert swept.summaries[1].at_depths["tuned"][1::4].tolist() == [FALLING[row] + 1.0 for row in (0, 2, 4, 6, 8)]


@pytest.mark.parametrize(("gains", "verdict"), [
    ([0.0, 0.05, 0.1], "neutral"), ([0.11, 0.0, -0.1], "helpful"), ([2.0, 0.3, -0.11], "regressive"),
    ([None, None, 0.2], "helpful"), ([None, None, None], None), ([], None),
])  # fmt: skip
def test_a_prism_is_judged_by_its_gain_at_each_depth(gains: list[float | None], verdict: str | None) -> None:
    assert prism_verdict({"delta_kl": [{"median_delta_kl_bits": gain} for gain in gains]}) == verdict
