"""The table of `logos-pl hub list` and `hub index`."""

from rich.markup import escape
from rich.table import Table

from logos_pl.hub.index import VERDICTS, Index
from logos_pl.hub.layout import WORDS
from logos_pl.io.fitting import fits, print_table
from logos_pl.io.terminal import Console


def print_index(index: Index) -> None:
    """Print the index; lines are not wrapped unless the output is a terminal."""
    console = Console()
    table = index_table(index)
    if not console.is_terminal:
        console.print(table, soft_wrap=True)
    else:
        print_table(table if fits(table, console) else index_table(index, stacked=True), console)


def index_table(index: Index, stacked: bool = False) -> Table:
    """Table of an index: one line per lens.

    Args:
        index: The index.
        stacked: Put secondary values below the first line, for narrow terminals.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    headings = ("version\nmodel commit", "size\ngates") if stacked else ("", "version", "size", "gates", "model commit")
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="right" if heading == "size" else "left")
    for kind, model_id, entry in index:
        verdict = VERDICTS[entry.gates_passed] if kind == "tuned_lenses" else "–"
        commit = entry.model_commit.removeprefix("sha256:")[:12]
        cells: tuple[str, ...] = (model_id, WORDS[kind], entry.tl_version, entry.size, verdict, commit)
        if stacked:
            cells = (f"{model_id}\n{WORDS[kind]}", f"{entry.tl_version}\n{commit}", f"{entry.size}\n{verdict}")
        table.add_row(*map(escape, cells))
    return table
