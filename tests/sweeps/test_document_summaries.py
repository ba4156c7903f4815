import math
from dataclasses import replace

from logos_pl.data.prompt_types import Prompt
from logos_pl.sweeps.document import OutputBuilder
from logos_pl.sweeps.records import PromptRecords
from tests.sweeps.documents import (
    CONTROL,
    FACTS,
    FALLING,
    FILES,
    IMPORTED,
    LAST_RANK_1,
    MODEL,
    NO_FILLER,
    ORIGIN,
    STATS,
    document,
    read_back,
)
from tests.sweeps.made_records import prompt_records


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


def test_a_model_of_one_block_has_no_row_at_a_depth_percentile() -> None:
    builder = OutputBuilder()
    builder.add(prompt_records({"norm": (1.0, 0.0), "tuned": (1.0, 0.0)}))
    plain = read_back(builder.finish(MODEL, FACTS, FILES, replace(STATS, num_blocks=1), {"tuned": ORIGIN}))

    assert plain["tuned_lens"]["summaries"]["delta_kl"] == []
