"""How a reply is shown: coloured by depth, or, without colours, with the row below each token."""

from collections.abc import Sequence
from itertools import pairwise

from rich.cells import cell_len
from rich.text import Text

from logos_pl.io.terminal import Console, legible, printable

COLOURS = ("green", "cyan", "bright_blue", "magenta", "red")
"""Colours of equal shares of the depth, the first rows first."""

UNSETTLED = "bold"
"""Style of a token that is not the lens's likeliest at the last row."""

LABELS = ("token", "row")


class ReplyView:
    """Prints a reply.

    Args:
        num_blocks: Number n of blocks; rows are 0 … n.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.console = Console()

    @property
    def has_colour(self) -> bool:
        """Whether the terminal shows colours and they are not disabled."""
        return self.console.color_system is not None and not self.console.no_color

    def legend(self) -> None:
        """Print what the colours or the numbers mean."""
        if not self.has_colour:
            words = f"Below each token: the first row, of 0 to {self.num_blocks}, from which it stays the likeliest."
            self.console.print(words, markup=False, soft_wrap=True)
            return
        line = Text("Colour of a token: the first row from which it stays the likeliest: ")
        edges = [round(share * (self.num_blocks + 1) / len(COLOURS)) for share in range(len(COLOURS) + 1)]
        for number, (first, end) in enumerate(pairwise(edges)):
            if first < end:
                line.append(f"{first}–{end - 1}" if end - 1 > first else f"{first}", COLOURS[number])
                line.append(" " if end <= self.num_blocks else ".")
        self.console.print(line, soft_wrap=True)

    def style(self, row: int | None) -> str:
        """Style of a token that settled at a row."""
        if row is None:
            return UNSETTLED
        edges = [round(share * (self.num_blocks + 1) / len(COLOURS)) for share in range(1, len(COLOURS))]
        return COLOURS[sum(row >= edge for edge in edges)]

    def stream(self, text: str, row: int | None) -> None:
        """Print a piece of the reply at once.

        Args:
            text: Text added by the token.
            row: Row at which it settled.
        """
        style = self.style(row) if self.has_colour else ""
        self.console.print(Text(text, style), end="", soft_wrap=True)

    def end(self, tokens: Sequence[str], rows: Sequence[int | None]) -> None:
        """End the line of a reply, and without colours print its tokens with their rows below."""
        self.console.print()
        if not self.has_colour:
            self.pairs(tokens, ["–" if row is None else str(row) for row in rows])

    def pairs(self, above: Sequence[str], below: Sequence[str], labels: tuple[str, str] = LABELS) -> None:
        """Print two lines of cells, one above the other, wrapped to the width of the terminal.

        Args:
            above: Cells of the first line.
            below: Cells of the second.
            labels: Labels in front of the lines.
        """
        cells = [(self._cell(a), self._cell(b)) for a, b in zip(above, below, strict=True)]
        margin = max(map(len, labels)) + 1
        start = 0
        while start < len(cells):
            used, end = margin, start
            while end < len(cells) and (end == start or used + _width(cells[end]) < self.console.width):
                used += _width(cells[end]) + 1
                end += 1
            for line, label in enumerate(labels):
                padded = (_padded(pair[line], _width(pair)) for pair in cells[start:end])
                text = f"{label:{margin}}{' '.join(padded)}".rstrip()
                self.console.print(text, markup=False, soft_wrap=True)
            start = end

    def _cell(self, text: str) -> str:
        """A token in one line, no wider than the terminal."""
        shown = legible(printable(text.replace("\t", "\\t"), keep=""), self.console.encoding)
        most = self.console.width - 10
        return shown if cell_len(shown) <= most else shown[: most // 2]


def _width(pair: tuple[str, str]) -> int:
    return max(map(cell_len, pair))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
