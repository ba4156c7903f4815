"""Tables in narrow terminals: text is shortened, figures are not, and what does not fit goes below."""

import io
from collections.abc import Sequence

import pytest
from rich.table import Table

from logos_pl.io.fitting import LEAST_TEXT, fits, print_in_parts, print_table
from logos_pl.io.terminal import Console

FIGURE = "1,234,567.8901"
"""A figure wider than the least of a text."""


def console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width)


def lines(of: Console) -> list[str]:
    return [line.rstrip() for line in of.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def words(first: int = 20, second: int = 30) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("a", no_wrap=True, max_width=50)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("b", no_wrap=True, max_width=50)
    table.add_row("x" * first, FIGURE, "y" * second)
    return table


def test_with_room_nothing_is_shortened() -> None:
    out = console(70)
    print_table(words(), out)
    assert lines(out)[1] == f"{'x' * 20} {FIGURE} {'y' * 30}"


@pytest.mark.parametrize("width", range(2 * LEAST_TEXT + len(FIGURE) + 2, 66))
def test_the_widest_text_gives_way_first_and_the_figure_never(width: int) -> None:
    out = console(width)
    print_table(words(), out)
    header, row = lines(out)
    a, figure, b = row.split(" ")
    assert len(row) == width
    assert figure == FIGURE
    assert len(b) - len(a) <= 10
    assert min(len(a), len(b)) >= LEAST_TEXT
    assert len(a) == 20 or abs(len(a) - len(b)) <= 1, "the longer one is shortened until both are as long"
    assert header.index("b") == row.index("y")


def test_a_table_fits_once_its_text_is_as_short_as_it_may_be() -> None:
    least = 2 * LEAST_TEXT + len(FIGURE) + 2
    assert fits(words(), console(least))
    assert not fits(words(), console(least - 1))
    assert fits(words(3, 3), console(3 + len(FIGURE) + 3 + 2)), "short text needs less"


def test_what_does_not_fit_beside_the_others_goes_below_them() -> None:
    def table_of(parts: Sequence[str]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for part in parts:
            table.add_column(part, justify="right", no_wrap=True)
        table.add_row(*("12345678" for _ in parts))
        return table

    for width, together in ((8, 1), (16, 1), (17, 2), (25, 2), (26, 3), (80, 5)):
        out = console(width)
        print_in_parts(table_of, list("abcde"), out)
        headings = [line.split() for line in lines(out)[::2]]
        assert [len(row) for row in headings][:-1] == [together] * (len(headings) - 1)
        assert [name for row in headings for name in row] == list("abcde")
        assert max(map(len, lines(out))) <= width
