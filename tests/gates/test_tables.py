"""The tables are read back by the standard library and recomputed from figures whose answer is known by hand."""

import csv
import io
import math
import re

import pytest
import torch

from logos_pl.gates.tables import prompts_csv, rows_csv
from tests.gates.lens_suite import altered, prompt, ranks

NUM_BLOCKS = 8
DEPTHS = {25: 2, 50: 4, 75: 6}


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_prompt_has_one_line_with_all_that_the_gates_read() -> None:
    given = prompt(
        "a, \"b\"",
        num_blocks=NUM_BLOCKS,
        norm=ranks(NUM_BLOCKS, {10: 3, 5: 5, 1: 7}, 2),
        tuned=ranks(NUM_BLOCKS, {10: 1, 5: 6, 1: None}, 2),
        final_rank=2,
        last=0.125,
    )  # fmt: skip
    lenses = {}
    for number, (lens, figures) in enumerate(given.lenses.items()):
        to_final, from_final = ([scale * number + row for row in range(NUM_BLOCKS + 1)] for scale in (10.0, 100.0))
        lenses[lens] = figures._replace(kl_to_final_bits=to_final, kl_from_final_bits=from_final)
    given = given._replace(lenses=lenses)
    (line,) = read(prompts_csv([given], NUM_BLOCKS))

    assert line["prompt_id"] == 'a, "b"'
    assert (line["answer_status"], line["used"], line["final_rank"]) == ("resolved", "True", "2")
    assert float(line["last_layer_kl_after_temp_bits"]) == 0.125
    for number, lens in enumerate(given.lenses):
        for depth, row in DEPTHS.items():
            assert float(line[f"kl_to_final_bits_{lens}_depth{depth}"]) == 10 * number + row
            assert float(line[f"kl_from_final_bits_{lens}_depth{depth}"]) == 100 * number + row
    assert (line["earliness_rank_le_10"], line["earliness_rank_le_5"]) == ("2", "-1")
    assert line["earliness_rank_le_1"] == "", "the model itself ranks it second"
    assert (line["rank1_rows_norm"], line["rank1_rows_tuned"]) == ("1", "0")


def test_an_answer_that_is_never_reached_counts_as_one_row_past_the_last() -> None:
    given = prompt("p", num_blocks=NUM_BLOCKS, norm=[100] * 9, tuned=[100, 100, 4, *[100] * 6], final_rank=4)
    (line,) = read(prompts_csv([given], NUM_BLOCKS))
    assert (line["earliness_rank_le_10"], line["earliness_rank_le_5"]) == ("7", "7")


@pytest.mark.parametrize("status", ["unresolved", "none"])
def test_a_prompt_without_an_answer_leaves_its_cells_empty(status: str) -> None:
    (line,) = read(prompts_csv([prompt("p", num_blocks=NUM_BLOCKS, status=status)], NUM_BLOCKS))
    assert line["used"] == str(status == "none")
    empty = {name for name, cell in line.items() if cell == ""}
    assert empty == {
        "final_rank", "earliness_rank_le_10", "earliness_rank_le_5", "earliness_rank_le_1", "rank1_rows_norm",
        "rank1_rows_tuned",
    }  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_an_empty_cell_of_a_prompt_that_is_not_used(value: float) -> None:
    given = altered(prompt("p", num_blocks=NUM_BLOCKS, last=value), "bias", "kl_to_final_bits", 4, value)
    line, _ = read(prompts_csv([given, prompt("q", num_blocks=NUM_BLOCKS)], NUM_BLOCKS))
    assert line["used"] == "False"
    assert line["kl_to_final_bits_bias_depth50"] == line["last_layer_kl_after_temp_bits"] == ""
    assert line["earliness_rank_le_10"] == ""
    assert not re.search("nan|inf", ",".join(line.values()))


def test_every_row_has_one_line_for_both_lenses() -> None:
    quantities = ("kl_to_final_bits", "kl_from_final_bits", "top1_agree", "entropy_bits", "nonfinite")
    rows = {
        lens: {name: 0.5 + 100 * a + 10 * b + torch.arange(5.0) for b, name in enumerate(quantities)}
        for a, lens in enumerate(("norm", "tuned"))
    }
    rows["tuned"]["entropy_bits"][3] = math.nan
    bits = {"norm": torch.arange(5.0) + 7, "tuned": torch.arange(5.0) + 9}
    lines = read(rows_csv(rows, bits))

    assert [(line["layer"], float(line["depth_frac"])) for line in lines] == [(str(r), r / 4) for r in range(5)]
    for a, lens in enumerate(("norm", "tuned")):
        for b, name in enumerate(quantities[:-1]):
            cells = [line[f"{name}_{lens}"] for line in lines]
            wanted = [str(0.5 + 100 * a + 10 * b + row) for row in range(5)]
            if (lens, name) == ("tuned", "entropy_bits"):
                wanted[3] = ""
            assert cells == wanted
        assert [float(line[f"next_token_bits_per_byte_{lens}"]) for line in lines] == bits[lens].tolist()
    assert len(lines[0]) == 2 + 2 * 5
