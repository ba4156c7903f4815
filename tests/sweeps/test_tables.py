from typing import Any

import pytest

from logos_pl.data.prompt_types import AnswerTokens
from logos_pl.sweeps.milestones import Milestones, milestones
from logos_pl.sweeps.records import PromptRecords, TopToken
from logos_pl.sweeps.tables import milestone_line, print_prompt_table, prompt_table, summary_line, summary_table
from tests.printed import printed
from tests.sweeps.made_records import prompt_records


def records(lenses: int = 2, token: str = " the", **changes: Any) -> PromptRecords:
    """Three rows; the answer is at rank 7, 3 and 1, and KL falls to 0.8 and 0."""
    ranks = {
        row: {"answer_rank": rank, "top": (TopToken(9, token, 0.5),), **changes} for row, rank in enumerate((7, 3, 1))
    }
    names = ("norm", "tuned")[:lenses]
    return prompt_records({lens: [2.0, 0.8, 0.0] for lens in names}, rows=dict.fromkeys(names, ranks))


def reached(made: PromptRecords) -> dict[str, Milestones]:
    return {lens: milestones(rows) for lens, rows in made.next_token.items()}


def test_the_prompt_table_shows_tokens_as_they_are_and_marks_milestones() -> None:
    made = records(lenses=1, token="[red]\n")
    lines = printed(prompt_table(made, reached(made), list(made.next_token)))

    assert lines[2] == ["0", "'[red]\\n'", "0.50", "7*", "2.00", "5.00"]
    assert lines[3] == ["1", "'[red]\\n'", "0.50", "3*", "0.80*", "5.00"]
    assert lines[4] == ["2", "'[red]\\n'", "0.50", "1*", "0.00*", "5.00"]


def test_a_divergence_that_rounds_to_zero_has_no_sign() -> None:
    made = records(lenses=1, kl_to_final_bits=-1e-7)
    cells = [cell for line in printed(prompt_table(made, reached(made), list(made.next_token))) for cell in line]
    assert "-0.00" not in " ".join(cells)
    assert "0.00" in " ".join(cells)


def test_two_lenses_fit_into_eighty_columns_with_every_row_and_figure() -> None:
    wide = {"p_top1": 0.16, "kl_to_final_bits": 22.42, "entropy_bits": 17.24, "answer_rank": 120_000}
    made = records(token=" incomprehensibilities", **wide)
    lines = printed(prompt_table(made, reached(made), list(made.next_token)))

    for row, line in enumerate(lines[2:]):
        token = ["'", "incomprehe…"]  # cut at 13 characters, the quote and the space among them
        figures = ["0.16", "120000", "22.42", "17.24"]
        assert line == [str(row), *token, *figures, *token, *figures]


def test_without_an_answer_there_is_no_rank() -> None:
    made = records(lenses=1, answer_rank=None)._replace(answer_tokens=AnswerTokens("none"))
    lines = printed(prompt_table(made, reached(made), list(made.next_token)))

    assert "rank" not in lines[1]
    assert lines[2] == ["0", "'", "the'", "0.50", "2.00", "5.00"]
    assert "rank" not in milestone_line("norm", reached(made)["norm"], 2, has_answer=False)


def test_more_than_two_lenses_stand_in_tables_of_two_below_each_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    made = records()
    rows = made.next_token["norm"]
    made = made._replace(next_token={"norm": rows, "tuned": rows, "imported": rows})
    print_prompt_table(made, reached(made))
    lines = capsys.readouterr().out.splitlines()

    headings = [line.split() for line in lines if line.split()[:1] in (["norm"], ["imported"])]
    assert headings == [["norm", "tuned"], ["imported"]]
    assert not any("…" in line for line in lines)


def test_the_milestones_are_said_in_words() -> None:
    made = records()

    assert milestone_line("norm", reached(made)["norm"], 2, has_answer=True) == (
        "* norm: rank ≤ 10, 5, 1 from rows 0, 1, 2 · KL < 1, 0.5 bits from 1, 2 of 2"
    )


def test_an_answer_that_cannot_be_told_apart_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    made = records(answer_rank=None)._replace(answer_tokens=AnswerTokens("unresolved"))
    print_prompt_table(made, reached(made))

    assert "'Berlin' merges with the prompt's last token" in capsys.readouterr().out


def test_the_summary_has_a_line_per_prompt() -> None:
    made = records()
    lines = printed(summary_table([summary_line(made, reached(made))], ["norm", "tuned"]))

    assert lines[-1] == ["pos/orig", "'Berlin'", "1", "2", "2", "1", "1"]


def test_the_summary_of_three_lenses_fits_into_80_columns() -> None:
    line = ("pos/no_filler", "'Copenhagen'", "1", "4", "3", "2", "6", "5", "4")
    lines = printed(summary_table([line], ["norm", "tuned", "imported"]))

    assert lines[-2] == ["prompt", "answer", "rank", *["norm", "tuned", "imported"] * 2]
    assert lines[-1] == list(line)
