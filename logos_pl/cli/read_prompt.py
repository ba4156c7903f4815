"""The work of `logos-pl read`: the sweep of one prompt, its table, page and picture."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from logos_pl.api import load_model, sweep
from logos_pl.cli.lens_at_hand import GivenModel, LensAtHand, find_lens
from logos_pl.data.prompt_types import Message, Prompt
from logos_pl.errors import InputError
from logos_pl.io.fitting import fits, print_table
from logos_pl.io.terminal import Console, say, shortened
from logos_pl.io.waiting import waiting
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.milestones import milestones
from logos_pl.sweeps.records import NextTokenRecord, PromptRecords
from logos_pl.sweeps.tables import answer_words, milestone_line, reading_table

MAX_STDIN_BYTES = 2**22
"""Largest prompt on standard input: more than any context holds."""

MAX_SHOWN = 300
"""Characters of the prompt that are printed above the table."""


def read(given: argparse.Namespace) -> None:
    """Read the prompt, print the table, and write page and picture if requested.

    Raises:
        InputError: An option, the prompt, the model or the lens cannot be used.
        RunError: The disk or the Hub fails.
    """
    prompt = _prompt(given)
    found = find_lens(GivenModel(given.model, given.gguf, given.adapter), given.lens, given.lens_revision)
    with waiting(f"loading {given.model}"):
        lm = load_model(
            given.model, revision=given.revision, gguf=given.gguf, adapter=given.adapter, device=given.device
        )
        lens = found.load(lm)
    rows = _rows(given.layers, lm.num_blocks)
    with waiting("reading"):
        (records,) = sweep(lm, [prompt], lens.lenses, special_tokens=given.special_tokens).prompts
    _show(lm, lens, records, rows, given.top)
    if given.html is not None:
        _write_page(lm, lens, records, Path(given.html))
        say(f"page: {given.html}")
    if given.png is not None:
        _write_picture(lens, records, Path(given.png))
        say(f"picture: {given.png}")


def _show(lm: FrozenLM, lens: LensAtHand, records: PromptRecords, rows: Sequence[int], top: int) -> None:
    """Print model, lens and prompt, the table, and the milestones of the answer."""
    dtype = str(lm.dtype).removeprefix("torch.")
    say(f"{lm.model_id}: {lm.num_blocks} blocks, on {lm.device} in {dtype}, read by the {lens.words}")
    say(f"{shortened(repr(records.prompt.text), MAX_SHOWN)}{answer_words(records)}")
    of_lens = records.next_token[lens.name]
    rows = _read_rows(of_lens, rows)
    reached = milestones(of_lens)
    shown = print_reading(of_lens, rows, top)
    say(milestone_line(lens.name, reached, lm.num_blocks, records.answer_tokens.status == "resolved"))
    if shown < top:
        say(f"{shown} of {top} tokens fit into this width: widen the terminal, or write the page with --html.")


def _read_rows(of_lens: Sequence[NextTokenRecord], rows: Sequence[int]) -> list[int]:
    """The rows that the lens reads; the others are printed.

    Raises:
        InputError: It reads none of them.
    """
    layers = {record.layer for record in of_lens}
    missing = ", ".join(str(row) for row in rows if row not in layers)
    found = [row for row in rows if row in layers]
    if not found:
        raise InputError(f"The lens has no map for row(s) {missing}: it reads {', '.join(map(str, sorted(layers)))}.")
    if missing:
        say(f"This lens has no map for row(s) {missing}.")
    return found


def print_reading(of_lens: Sequence[NextTokenRecord], rows: Sequence[int], top: int) -> int:
    """Print the table with as many of the tokens as fit into the width.

    Args:
        of_lens: Records of one lens.
        rows: Rows to show; the lens reads them.
        top: Maximum number of tokens to show.

    Returns:
        Number of tokens shown.
    """
    top, console = min(top, len(of_lens[0].top)), Console()
    by_layer = {record.layer: record for record in of_lens}
    for shown in range(top, 0, -1):
        table = reading_table([by_layer[row] for row in rows], milestones(of_lens), shown)
        if shown == 1 or fits(table, console):
            break
    print_table(table, console)
    return shown


def _write_page(lm: FrozenLM, lens: LensAtHand, records: PromptRecords, path: Path) -> None:
    from logos_pl.sweeps.page import PageWriter, partly_read  # matplotlib

    names, partly = list(lens.lenses), partly_read(lens.lenses)
    with PageWriter(path, lm.clean_model_name, names, lm.num_blocks, lens.command, partly) as page:
        page.add(records, {name: milestones(of_lens) for name, of_lens in records.next_token.items()})


def _write_picture(lens: LensAtHand, records: PromptRecords, path: Path) -> None:
    from logos_pl.sweeps.plots import save_figure  # matplotlib
    from logos_pl.sweeps.token_map import token_map

    save_figure(token_map(records, list(lens.lenses)), path)


def _prompt(given: argparse.Namespace) -> Prompt:
    """The prompt in its form: a text, a conversation or token ids.

    Raises:
        InputError: Standard input is not text, or the text is not a list of token ids.
    """
    text = _text(given.text)
    prompt = Prompt("prompt", "orig", text, given.answer)
    if given.chat:
        system = () if given.system is None else (Message("system", given.system),)
        return prompt._replace(messages=(*system, Message("user", text)))
    if not given.ids:
        return prompt
    ids = re.split(r"[\s,]+", text.strip().strip("[]").strip(", "))
    if not all(re.fullmatch("[0-9]{1,9}", id_) for id_ in ids):
        raise InputError(f"{shortened(repr(text), 60)} is not a list of token ids: give numbers, such as 1,2,3.")
    return prompt._replace(token_ids=tuple(map(int, ids)))


def _text(given: str) -> str:
    """Prompt of the command line or of standard input.

    Raises:
        InputError: Standard input is not text, or too long.
    """
    if given != "-":
        return given
    content = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(content) > MAX_STDIN_BYTES:
        raise InputError(f"Standard input has more than {MAX_STDIN_BYTES:,} bytes: give a shorter prompt.")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"Standard input is not UTF-8 text ({error.reason}): give it in UTF-8.") from error
    if "\0" in text:
        raise InputError("Standard input contains a NUL character: remove it.")
    return text.removesuffix("\n").removesuffix("\r")


def _rows(given: str | None, num_blocks: int) -> list[int]:
    """Rows to show, in order.

    Raises:
        InputError: The model has no such row, or a range is empty.
    """
    if given is None:
        return list(range(num_blocks + 1))
    rows: set[int] = set()
    for part in given.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span:
            raise InputError(f"--layers {part} is empty: give the lower row first.")
        if span[-1] > num_blocks:
            raise InputError(f"--layers {part}: this model has rows 0 to {num_blocks}.")
        rows |= set(span)
    return sorted(rows)
