"""Terminal tables of a sweep."""

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from logos_pl.io.fitting import print_in_parts
from logos_pl.io.terminal import say
from logos_pl.sweeps.milestones import Milestones
from logos_pl.sweeps.records import NextTokenRecord, PromptRecords

MARK = "*"
"""Marks a rank or KL at the row where it first reaches a milestone."""


def prompt_table(records: PromptRecords, milestones: Mapping[str, Milestones], lenses: Sequence[str]) -> Table:
    """Table by row: top-1 token with probability, rank of the answer, KL(P_row‖P_final) and entropy, for each lens."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("\nrow", justify="right", no_wrap=True, min_width=3)
    has_answer = records.answer_tokens.status == "resolved"
    for lens in lenses:
        table.add_column(f"{lens}\ntop-1", no_wrap=True, max_width=13, overflow="ellipsis")
        for heading in ("p", *(("rank",) if has_answer else ()), "KL", "H"):
            table.add_column(f"\n{heading}", justify="right", no_wrap=True)
    read = {lens: {record.layer: record for record in records.next_token[lens]} for lens in lenses}
    unread = [""] * (5 if has_answer else 4)
    for row in range(len(records.next_token["norm"])):
        cells = [
            cell
            for lens in lenses
            for cell in (_prompt_cells(read[lens][row], milestones[lens]) if row in read[lens] else unread)
        ]
        table.add_row(str(row), *cells)
    return table


def _prompt_cells(record: NextTokenRecord, reached: Milestones) -> list[str]:
    below = (reached.first_kl_below_0_5, reached.first_kl_below_1_0)
    rank = [] if record.answer_rank is None else [_rank_cell(record, reached)]
    kl = _marked(f"{record.kl_to_final_bits:z.2f}", record.layer in below)
    return [escape(repr(record.top[0].token)), f"{record.p_top1:.2f}", *rank, kl, f"{record.entropy_bits:.2f}"]


def _marked(text: str, mark: bool) -> str:
    return f"[bold]{text}{MARK}[/bold]" if mark else text


def reading_table(rows: Sequence[NextTokenRecord], reached: Milestones, top: int) -> Table:
    """Table by row of one lens: rank of the answer if there is one, and the likeliest tokens with their probabilities.

    Args:
        rows: Records of the rows to show.
        reached: Milestones of the prompt for this lens; their ranks are marked.
        top: Number of tokens.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("row", justify="right", no_wrap=True)
    ranked = any(record.answer_rank is not None for record in rows)
    if ranked:
        table.add_column("rank", justify="right", no_wrap=True)
    for number in range(top):
        table.add_column(f"top-{number + 1}", no_wrap=True, overflow="ellipsis", max_width=20)
        table.add_column("p", justify="right", no_wrap=True)
    for record in rows:
        cells = [cell for token in record.top[:top] for cell in (escape(repr(token.token)), f"{token.p:.2f}")]
        table.add_row(str(record.layer), *([_rank_cell(record, reached)] if ranked else []), *cells)
    return table


def _rank_cell(record: NextTokenRecord, reached: Milestones) -> str:
    ranks = (reached.first_rank_le_1, reached.first_rank_le_5, reached.first_rank_le_10)
    return "–" if record.answer_rank is None else _marked(str(record.answer_rank), record.layer in ranks)


def milestone_line(lens: str, reached: Milestones, num_blocks: int, has_answer: bool) -> str:
    """Sentence on the milestones of a lens; – for those never reached."""
    ranks = (reached.first_rank_le_10, reached.first_rank_le_5, reached.first_rank_le_1)
    parts = [f"rank ≤ 10, 5, 1 from rows {', '.join(map(_row, ranks))}"] if has_answer else []
    parts.append(
        f"KL < 1, 0.5 bits from {_row(reached.first_kl_below_1_0)}, {_row(reached.first_kl_below_0_5)} of {num_blocks}"
    )
    if reached.L_copy is not None:
        parts.append(f"copies the prompt at {reached.L_copy}")
    return f"{MARK} {lens}: " + " · ".join(parts)


def _row(row: int | None) -> str:
    return "–" if row is None else str(row)


def _first_piece(records: PromptRecords) -> str:
    """Note on the ranked token, for an answer of several tokens."""
    pieces = records.answer_tokens.pieces
    return f", ranked by its first token {pieces[0]!r}" if len(pieces) > 1 else ""


def answer_words(records: PromptRecords) -> str:
    """What is printed after a prompt about its expected answer; empty without one."""
    answer = records.prompt.answer
    return {
        "resolved": f" → {answer!r}" + _first_piece(records),
        "unresolved": f" → {answer!r} merges with the prompt's last token and is not searched for",
        "none": "",
    }[records.answer_tokens.status]


def print_prompt_table(records: PromptRecords, milestones: Mapping[str, Milestones]) -> None:
    """Print a prompt, its table and its milestones."""
    prompt, answer_tokens = records.prompt, records.answer_tokens
    say(f"\n{prompt.prompt_id}/{prompt.variant} {prompt.text!r}{answer_words(records)}")
    lenses = list(records.next_token)
    print_in_parts(lambda shown: prompt_table(records, milestones, shown), lenses)
    num_blocks = len(records.next_token["norm"]) - 1
    for lens, reached in milestones.items():
        line = milestone_line(lens, reached, num_blocks, answer_tokens.status == "resolved")
        say(line)


def summary_table(lines: Sequence[Sequence[str]], lenses: Sequence[str], shown: Sequence[str] | None = None) -> Table:
    """Table by prompt: first row with the answer at rank 1 and first row with KL below 1 bit, for each lens.

    Args:
        lines: Lines of `summary_line`.
        lenses: Lenses of the lines.
        shown: Lenses to show; None: all.
    """
    shown = lenses if shown is None else shown
    narrow = len(shown) > 2  # to fit into 80 columns
    above, headings = ("\n", ("rank 1\nfrom", "KL < 1\nfrom")) if narrow else ("", ("rank 1 from", "KL < 1 from"))
    table = Table(box=None, pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0))
    table.add_column(f"{above}\nprompt", overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column(f"{above}\nanswer", overflow="ellipsis", no_wrap=True, max_width=14)
    table.add_column(f"{above}final\nrank", justify="right", no_wrap=True)
    for heading in headings:
        for number, lens in enumerate(shown):
            table.add_column(f"{heading if number == 0 else above}\n{lens}", justify="right", no_wrap=True)
    start, places = len(lines[0]) - 2 * len(lenses), [lenses.index(lens) for lens in shown]
    columns = [*range(start), *(start + at for at in places), *(start + len(lenses) + at for at in places)]
    for line in lines:
        table.add_row(*(escape(line[column]) for column in columns))
    return table


def print_summary(lines: Sequence[Sequence[str]], lenses: Sequence[str]) -> None:
    """Print the table by prompt; lenses that do not fit beside the others go below them."""
    print_in_parts(lambda shown: summary_table(lines, lenses, shown), lenses)


def summary_line(records: PromptRecords, milestones: Mapping[str, Milestones]) -> tuple[str, ...]:
    """Line of a prompt in the summary."""
    final = records.next_token["norm"][-1]
    return (
        f"{records.prompt.prompt_id}/{records.prompt.variant}",
        "–" if records.prompt.answer is None else repr(records.prompt.answer),
        _row(final.answer_rank),
        *(_row(reached.first_rank_le_1) for reached in milestones.values()),
        *(_row(reached.first_kl_below_1_0) for reached in milestones.values()),
    )
