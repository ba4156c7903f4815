"""Interactive HTML page of a model: readings of every lens at every row and position, in one self-contained file."""

import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from logos_pl.data.prompt_types import AnswerTokens
from logos_pl.io.files import text_stream
from logos_pl.io.markdown import in_one_line
from logos_pl.kinds.registry import kind_of
from logos_pl.lenses.norm import Lens
from logos_pl.sweeps.milestones import Milestones, as_json
from logos_pl.sweeps.page_template import page_halves
from logos_pl.sweeps.records import NextTokenRecord, PositionRecord, PromptRecords

SIGNIFICANT_DIGITS = 4
"""Significant digits of numbers in the page, as its footer says; the CSV files have full precision."""

_UNSAFE = re.compile("[<>&\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that JSON allows but HTML, UTF-8 or a terminal may not: tags, control characters, direction marks."""

_QUANTITIES = ("entropy_bits", "kl_to_final_bits", "kl_from_final_bits", "rest_mass")
_NEXT_QUANTITIES = (
    "teacher_entropy_bits", "p_answer", "answer_rank", "answer_logit_gap", "answer_nll_bits", "cos_to_final",
    "control_margin",
)  # fmt: skip


def partly_read(lenses: Mapping[str, Lens]) -> dict[str, tuple[int, ...]]:
    """Rows read by each lens that does not read all of them."""
    return {name: lens.rows for name, lens in lenses.items() if len(lens.rows) < lens.head.num_rows}


class PageWriter:
    """Context manager that writes the page prompt by prompt, in constant memory.

    The page is written to `<name>.partial` and renamed when the block ends without an exception; after an exception the
    partial file remains.
    """

    def __init__(
        self,
        path: str | Path,
        model_name: str,
        lens_names: Sequence[str],
        num_blocks: int,
        command: str,
        lens_rows: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Store the arguments; nothing is written yet.

        Args:
            path: Path of the page; an existing file is replaced.
            model_name: Title.
            lens_names: Lenses in the order of their buttons; every record must have all of them.
            num_blocks: Number n of blocks; rows are 0 … n.
            command: Command line that reads a prompt in the same way, without the prompt.
            lens_rows: The rows that a lens reads, for lenses that do not read all of them.
        """
        self._command, self._lens_rows = command, dict(lens_rows or {})
        self.path = Path(path)
        self._model_name, self._lens_names, self._num_blocks = model_name, tuple(lens_names), num_blocks
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Start the partial file.

        Raises:
            OSError: The file cannot be written.
        """
        labels = {name: kind_of(name).label for name in self._lens_names}
        about = {
            "model": self._model_name, "lenses": self._lens_names, "labels": labels, "num_blocks": self._num_blocks,
            "command": self._command,
        }  # fmt: skip
        self._page = _page(self.path, self._model_name, about)
        self._file = self._page.__enter__()
        return self

    def add(self, record: PromptRecords, milestones: Mapping[str, Milestones]) -> None:
        """Write a prompt.

        Args:
            record: Records of the prompt.
            milestones: Milestones by lens; a lens without them has no marks.

        Raises:
            KeyError: The record lacks a lens of the page.
            ValueError: Its rows and positions do not match the model and the prompt.
            OSError: The file cannot be written.
        """
        if self._file is None:
            raise ValueError("A page takes prompts only inside its with block.")
        lenses = {name: self._lens(record, name, milestones.get(name)) for name in self._lens_names}
        prompt = record.prompt
        label = " · ".join(part for part in (prompt.prompt_id, prompt.variant, prompt.fact) if part)
        data = _prompt_data(record, lenses)
        self._file.write(
            f'<script type="application/json" data-prompt="{html.escape(in_one_line(label))}">{_json(data)}</script>\n'
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete and rename the page, unless there was an exception.

        Raises:
            OSError: The file cannot be written.
        """
        self._file = None
        self._page.__exit__(kind, error, trace)

    def _lens(self, record: PromptRecords, name: str, reached: Milestones | None) -> dict[str, Any]:
        cells, rows = record.positions[name], record.next_token[name]
        read = list(self._lens_rows.get(name, range(self._num_blocks + 1)))
        if [(cell.layer, cell.pos) for cell in cells] != [(row, pos) for row in read for pos in range(len(record.ids))]:
            raise ValueError(
                f"{record.prompt.prompt_id!r}, lens {name}: the cells are not rows × positions, row by row."
            )
        if [row.layer for row in rows] != read:
            which = ", ".join(map(str, read)) if name in self._lens_rows else f"0 … {self._num_blocks}"
            raise ValueError(f"{record.prompt.prompt_id!r}, lens {name}: the rows are not {which}.")
        marks = None if reached is None else as_json(reached, self._num_blocks)
        by_place = {(cell.layer, cell.pos): cell for cell in cells}
        all_rows = range(self._num_blocks + 1)
        places = [(row, pos) for row in all_rows for pos in range(len(record.ids))]
        by_layer = {row.layer: row for row in rows}
        return {
            "rows": read,
            **_cells([by_place.get(place) for place in places]),
            **_followed(record, name, [place in by_place for place in places]),
            "next": _rows([by_layer.get(row) for row in all_rows]),
            "milestones": _rounded(marks),
        }


@contextmanager
def _page(path: Path, model_name: str, about: Mapping[str, Any]) -> Iterator[TextIO]:
    """Open the page and write its head; write its tail at the end."""
    head, tail = page_halves(model_name)
    with text_stream(path) as file:
        file.write(f'{head}<script type="application/json" id="about">{_json(about)}</script>\n')
        yield file
        file.write(tail)


def _prompt_data(record: PromptRecords, lenses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Data of one prompt for the script; token tables are by id."""
    listed = [top for cells in record.positions.values() for cell in cells for top in cell.top]
    strings = {token.id: token.token for token in listed} | dict(zip(record.ids, record.tokens, strict=True))
    strings |= dict(zip(record.followed.ids, record.followed.tokens, strict=True))
    prompt = record.prompt
    return {
        "prompt": prompt._asdict(),
        "gold": _answer_tokens(record.answer_tokens),
        "contrast": _answer_tokens(record.contrast),
        "ids": record.ids,
        "tokens": dict(sorted(strings.items())),
        "places": record.places if prompt.messages else (),
        "nonfinite": record.nonfinite,
        "followed_ids": record.followed.ids,
        "lenses": lenses,
    }


def _answer_tokens(answer_tokens: AnswerTokens) -> dict[str, Any]:
    return {**answer_tokens._asdict(), "first_id": answer_tokens.first_id}


def _cells(cells: Sequence[PositionRecord | None]) -> dict[str, Any]:
    """Readings of one lens as flat lists, row by row; `top_k` tokens for every cell; None where nothing is read."""
    lists = {name: [_rounded(getattr(cell, name, None)) for cell in cells] for name in _QUANTITIES}
    listed = [() if cell is None else cell.top for cell in cells]
    top_k = max(map(len, listed))
    top = [tokens[i] if i < len(tokens) else None for tokens in listed for i in range(top_k)]
    top_ids = [None if token is None else token.id for token in top]
    top_p = [None if token is None else _rounded(token.p) for token in top]
    return {**lists, "top_k": top_k, "top_ids": top_ids, "top_p": top_p}


def _followed(record: PromptRecords, lens: str, is_read: Sequence[bool]) -> dict[str, Any]:
    """Ranks and probabilities of the followed tokens as flat lists, cell by cell, row by row; None if not read."""
    nothing = (None,) * len(record.followed.ids)
    found: dict[str, Any] = {}
    for key, cells in (("rank", record.followed.ranks.get(lens, [])), ("p", record.followed.p.get(lens, []))):
        rest = iter(cells)
        placed = [next(rest) if there else nothing for there in is_read] if cells else []
        found[f"followed_{key}"] = [_rounded(value) for cell in placed for value in cell]
    return found


def _rows(rows: Sequence[NextTokenRecord | None]) -> dict[str, Any]:
    return {name: [_rounded(getattr(row, name, None)) for row in rows] for name in _NEXT_QUANTITIES}


def _rounded(value: Any) -> Any:
    """Round floats to `SIGNIFICANT_DIGITS`; non-finite numbers become None, as JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return int(short) if short.is_integer() else short


def _json(data: Any) -> str:
    """JSON escaped for a script element, so that it cannot end the element or start a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
