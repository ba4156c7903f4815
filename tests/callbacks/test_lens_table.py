import io

import torch
from rich.console import Console
from rich.table import Table

from logos_pl.callbacks.lens_table import kl_table, prompt_table
from logos_pl.modules.tuning import PromptReading


def printed(table: Table) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_kl_table_has_every_row_and_marks_the_percentiles() -> None:
    def reading(offset: float) -> dict[str, torch.Tensor]:
        values = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]) + offset
        return {"kl_from_final_bits": values, "kl_to_final_bits": values * 10, "top1_agree": values / 10}

    lines = printed(kl_table({"norm": reading(0.5), "tuned": reading(0.0)}))

    assert lines[2] == ["0", "4.500", "4.000", "45.000", "40.000", "45.0%", "40.0%"]
    assert lines[4] == ["2", "50%", "2.500", "2.000", "25.000", "20.000", "25.0%", "20.0%"]
    assert [line[0] for line in lines[2:]] == ["0", "1", "2", "3", "4"]


def test_the_prompt_table_shows_tokens_as_they_are() -> None:
    ids = torch.tensor([0, 1])
    reading = PromptReading(ids, torch.tensor([0.25, 1.0]), torch.tensor([7, 1]), torch.tensor([2.0, 0.0]), ids * 1.5)

    lines = printed(prompt_table({"norm": reading}, lambda token: ["[red]", "\n"][token[0]]))

    assert lines[2] == ["0", "'[red]'", "0.25", "7", "2.00", "0.00"]
    assert lines[3] == ["1", "'\\n'", "1.00", "1", "0.00", "1.50"]


def test_two_lenses_fit_into_eighty_columns_with_every_row_and_figure() -> None:
    ids = torch.arange(3)
    reading = PromptReading(
        ids, torch.full((3,), 0.16), ids + 120_000, torch.full((3,), 22.42), torch.full((3,), 17.24)
    )

    lines = printed(prompt_table({"norm": reading, "tuned": reading}, lambda token: " incomprehensibilities"))

    for row, line in enumerate(lines[2:]):
        token = ["'", "incomprehe…"]  # cut at 13 characters, the quote and the space among them
        figures = ["0.16", str(120_000 + row), "22.42", "17.24"]
        assert line == [str(row), *token, *figures, *token, *figures]


def test_without_an_answer_there_is_no_rank() -> None:
    reading = PromptReading(torch.tensor([0]), torch.tensor([1.0]), None, torch.tensor([0.0]), torch.tensor([0.0]))

    lines = printed(prompt_table({"norm": reading}, str))

    assert "rank" not in lines[1]
    assert len(lines[2]) == 5
