"""Every table that a command prints, in narrow and wide terminals, with UTF-8 and without."""

import io
import re
import sys
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from rich.cells import cell_len

from logos_pl.cli import hub_table
from logos_pl.cli.hub_table import print_index
from logos_pl.cli.read_prompt import print_reading
from logos_pl.cli.selftest import Check, selftest_table
from logos_pl.fit.prism import Candidate
from logos_pl.fit.prism_export import candidate_table
from logos_pl.gates.gates import evaluate_gates
from logos_pl.gates.kpis import measure
from logos_pl.gates.report import GateReport
from logos_pl.gates.writer import print_gate_tables
from logos_pl.hub.index import Entry, Index, Licence
from logos_pl.io.fitting import print_table
from logos_pl.modules.kl_table import print_kl_table
from logos_pl.sweeps.milestones import milestones
from logos_pl.sweeps.records import PromptRecords, TopToken
from logos_pl.sweeps.tables import print_prompt_table, print_summary, summary_line
from tests.gates.test_writer import evaluated
from tests.sweeps.made_records import prompt_records

LENSES = ("norm", "tuned", "prism", "imported")
TOKEN = " größenwahnsinnigerweise"
TOP = tuple(TopToken(number, TOKEN, 0.5 / 2**number) for number in range(10))
NUMBER = re.compile(r"(?<![\w.’'\\])[-+]?\d[\d.,]*(?:%|\*)*(?![\w'])")
"""A figure, with what is attached to it; digits inside words and tokens are none."""


def records(lenses: tuple[str, ...]) -> PromptRecords:
    """A prompt with wide figures everywhere."""
    wide = {"top": TOP, "p_top1": 0.16, "kl_to_final_bits": 22.42, "entropy_bits": 17.24, "answer_rank": 120_000}
    rows = {lens: {row: dict(wide) for row in range(13)} for lens in lenses}
    rows["norm"][12]["answer_rank"] = 1
    return prompt_records({lens: [2.0] * 13 for lens in lenses}, rows=rows)


def kl(lenses: tuple[str, ...]) -> Callable[[], None]:
    def reading(offset: float) -> dict[str, torch.Tensor]:
        values = torch.linspace(20, 0, 25) + offset
        return {"kl_from_final_bits": values, "kl_to_final_bits": values * 2, "top1_agree": 1 - values / 25}

    return lambda: print_kl_table({lens: reading(number / 7) for number, lens in enumerate(lenses)}, "KL:")


def prompts(lenses: tuple[str, ...]) -> Callable[[], None]:
    made = records(lenses)
    return lambda: print_prompt_table(made, {lens: milestones(rows) for lens, rows in made.next_token.items()})


def summary(lenses: tuple[str, ...]) -> Callable[[], None]:
    made = records(lenses)
    made = made._replace(prompt=made.prompt._replace(prompt_id="a-long-name-of-a-prompt", answer="Antananarivo"))
    line = summary_line(made, {lens: milestones(rows) for lens, rows in made.next_token.items()})
    return lambda: print_summary([line] * 3, list(lenses))


def reading() -> None:
    print_reading(records(("norm",)).next_token["norm"], range(13), 10)


def gates() -> None:
    figures = evaluated(good=False)
    kpis = measure(figures.prompts, figures.text, 4)
    print_gate_tables(GateReport(kpis, evaluate_gates(kpis)))


def selftest() -> None:
    name = "row n through the model's own modules gives the model's logits"
    print_table(selftest_table([Check(name, "123456 of 1234567 differ", "0 differ", False)] * 3))


def candidates() -> None:
    chosen = Candidate("full", (0, 25, 50, 75))
    module = SimpleNamespace(
        frozen=SimpleNamespace(num_blocks=24),
        divergences={
            chosen: {25: 13.123, 50: 2.5, 75: 0.25},
            Candidate("diagonal", (50,)): {25: 3.0, 50: 2.5, 75: 0.2},
        },
        mean_divergence=lambda candidate: 5.291,
        chosen=chosen,
    )
    print_table(candidate_table(module))


def index() -> None:
    entry = Entry("path", "v2026.11.25", "c0ffee" * 6, None, 123_456_789, None, Licence(None, None, []), {})
    made = Index("v2026.11.25").with_entry("tuned_lenses", "mistralai/Mistral-Small-Base-with-a-long-name", entry)
    print_index(made.with_entry("prisms", "org/tiny", entry))


TABLES: dict[str, Callable[[], None]] = {
    "two lenses by row": kl(LENSES[:2]),
    "four lenses by row": kl(LENSES),
    "a prompt under two lenses": prompts(LENSES[:2]),
    "a prompt under four lenses": prompts(LENSES),
    "prompts under two lenses": summary(LENSES[:2]),
    "prompts under four lenses": summary(LENSES),
    "one prompt": reading,
    "gates": gates,
    "selftest": selftest,
    "candidates": candidates,
    "index": index,
}


def lines(show: Callable[[], None], width: int, monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> list[str]:
    """What is printed on a stream of that encoding, in a terminal of that width."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # a character that it lacks is an error
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(hub_table.Console, "is_terminal", True)
    show()
    stream.seek(0)
    return stream.read().splitlines()


def is_of_a_table(line: str) -> bool:
    """Whether a line is not one of the sentences beside the tables, which terminals wrap."""
    return not line.startswith(("* ", "pos/orig", "KL:", "Gain on that", "A: ", "B: ", "C: ", "D: "))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", TABLES)
def test_no_line_is_too_long_no_figure_is_cut_and_columns_stand_straight(
    name: str, width: int, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = Counter(NUMBER.findall("\n".join(lines(TABLES[name], 1000, monkeypatch, encoding))))
    shown = [line.rstrip() for line in lines(TABLES[name], width, monkeypatch, encoding)]
    table = [line for line in shown if is_of_a_table(line)]
    assert max(map(cell_len, table)) <= width
    assert not any("\x1b" in line for line in table)
    figures = Counter(NUMBER.findall("\n".join(shown)))
    if name == "one prompt":  # which shows as many tokens as fit
        assert {"0.50", "0.25", "120000", "1*", "12"} <= set(figures)
    else:
        assert wide - figures == Counter(), "every figure of a terminal without bounds is there"
    if name in BY_ROW:
        for block in blocks(table):
            ends = {match.end() for line in block for match in re.finditer(r"\S+", line)}
            assert len(ends) == max(len(line.split()) for line in block), "cells of a column end below each other"


BY_ROW = ("two lenses by row", "four lenses by row")
"""Tables of nothing but right-aligned figures."""


def blocks(table: list[str]) -> list[list[str]]:
    """The lines of rows 0 … n, by table."""
    found: list[list[str]] = []
    for line in table:
        if re.match(r"\s*0\s", line):
            found.append([])
        if found and re.match(r"\s*\d+\s", line):
            found[-1].append(line)
    assert all(len(block) == 25 for block in found)
    return found


def test_an_index_that_another_program_reads_has_whole_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    index()
    assert len(capsys.readouterr().out.splitlines()) == 3
