"""Unspoken intermediates for `gates.json` and for the terminal. Source: docs/intermediates.md."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from logos_pl.data.unspoken import UnspokenSuite
from logos_pl.data.unspoken_tokens import REASONS, TokenizedSuite
from logos_pl.functional.bootstrap import Interval
from logos_pl.functional.pass_at_k import AREA_MAX_K, FOUND_RANK, PASS_KS
from logos_pl.gates.unspoken_figures import ALL, LensFigures, Order, SetFigures, UnspokenFigures
from logos_pl.kinds.registry import kind_of

SCHEMA_VERSION = 1


class _Line(NamedTuple):
    """A line of the table: its heading, the interval of a lens, and the format of its numbers."""

    what: str
    of: Callable[[LensFigures], Interval | None]
    written: str = "percent"


def to_plain(suite: UnspokenSuite, tokenized: TokenizedSuite, figures: UnspokenFigures) -> dict[str, Any]:
    """The section `intermediates` of `gates.json` as plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "suite": suite.name,
        "suite_sha256": suite.sha256,
        "items": {
            "given": len(suite.items),
            "scored": len(tokenized.items),
            "answered": figures.num_answered,
            "without_answer": figures.num_without_answer,
            "unscored": {
                reason: [f"{item.set_name}/{item.item_id}" for item, why in tokenized.unscored if why == reason]
                for reason in tokenized.counts()
            },
        },
        "found_rank": FOUND_RANK,
        "area_max_k": AREA_MAX_K,
        "recall_rows": list(figures.recall_rows),
        "lenses": {name: _lens(of_lens) for name, of_lens in figures.lenses.items()},
    }


def _lens(figures: LensFigures) -> dict[str, Any]:
    return {
        "nonfinite": figures.nonfinite,
        "area_gain": {control: _interval(gain) for control, gain in figures.area_gain.items()},
        "sets": {name: _set(of_set) for name, of_set in figures.sets.items()},
    }


def _set(figures: SetFigures) -> dict[str, Any]:
    order = figures.order
    return {
        "items": figures.num_items,
        **{f"pass_at_{k}": _interval(found) for k, found in figures.pass_at.items()},
        "area": _interval(figures.area),
        "recall_at_10": _interval(figures.recall_at_10),
        "order": {
            "items": order.num_items,
            "first_row_intermediate": _interval(order.intermediate_row),
            "first_row_answer": _interval(order.answer_row),
            "intermediate_first_frac": _interval(order.intermediate_first_frac),
            "answer_first_frac": _interval(order.answer_first_frac),
        },
    }


def _interval(found: Interval | None) -> dict[str, float | int] | None:
    return None if found is None else found._asdict()


def headline(suite: UnspokenSuite, tokenized: TokenizedSuite, figures: UnspokenFigures) -> str:
    """What was read, in one sentence, and what could not be scored."""
    scored, given = len(tokenized.items), len(suite.items)
    items = f"{scored}" if scored == given else f"{scored} of {given}"
    answered = f"{figures.num_answered} of {scored - figures.num_without_answer}"
    text = (
        f"Unspoken intermediates: {items} items of {suite.name}; the model answers {answered}. Shares in percent and "
        "median rows, with 95% intervals."
    )
    for reason, count in tokenized.counts().items():
        text += f"\n· {count} cannot be scored: {REASONS[reason]}."
    unread = {name: of.nonfinite for name, of in figures.lenses.items() if of.nonfinite}
    for name, count in unread.items():
        text += f"\n· {count} readings of the {kind_of(name).label} are not finite and count as not found."
    return text


def beside_gate_b(figures: UnspokenFigures, lens: str) -> str | None:
    """How often a lens shows the answer before the intermediate; None without items to measure it on."""
    order = figures.lenses[lens].sets[ALL].order
    after, before = order.answer_first_frac, order.intermediate_first_frac
    if after is None or before is None:
        return None
    return (
        f"Beside gate B: on {order.num_items} items of unspoken intermediates whose answer the model ranks "
        f"{FOUND_RANK} or better, the {kind_of(lens).label} has the answer at rank ≤ {FOUND_RANK} before the "
        f"intermediate in {_cell(after)}%, after it in {_cell(before)}%."
    )


def unspoken_table(figures: UnspokenFigures, lenses: Sequence[str]) -> Table:
    """Table of some lenses side by side: shares in percent and rows, with intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, max_width=24)
    for lens in lenses:
        table.add_column(lens, justify="right", no_wrap=True)
    for line in _lines(figures):
        found = [line.of(figures.lenses[lens]) for lens in lenses]
        table.add_row(escape(line.what), *(_cell(interval, line.written) for interval in found))
    return table


def _lines(figures: UnspokenFigures) -> list[_Line]:
    def order(of: Callable[[Order], Interval | None]) -> Callable[[LensFigures], Interval | None]:
        return lambda lens: of(lens.sets[ALL].order)

    sets = [name for name in next(iter(figures.lenses.values())).sets if name != ALL]
    return [
        *(_Line(f"pass@{k}", lambda lens, k=k: lens.sets[ALL].pass_at[k]) for k in PASS_KS),  # type: ignore[misc]
        _Line("area under pass@k", lambda lens: lens.sets[ALL].area),
        *(
            _Line(f"area over {control}", lambda lens, control=control: lens.area_gain[control], "points")  # type: ignore[misc]
            for control in next(iter(figures.lenses.values())).area_gain
        ),
        _Line(f"recall@{FOUND_RANK} of 7 rows", lambda lens: lens.sets[ALL].recall_at_10),
        *(
            _Line(f"pass@{FOUND_RANK}, {name}", lambda lens, name=name: lens.sets[name].pass_at[FOUND_RANK])  # type: ignore[misc]
            for name in (sets if len(sets) > 1 else ())
        ),
        _Line("row of intermediate", order(lambda of: of.intermediate_row), "row"),
        _Line("row of answer", order(lambda of: of.answer_row), "row"),
        _Line("intermediate first", order(lambda of: of.intermediate_first_frac)),
        _Line("answer first", order(lambda of: of.answer_first_frac)),
    ]


_FORMATS: dict[str, Callable[[float], str]] = {
    "percent": lambda value: f"{100 * value:.0f}",
    "points": lambda value: f"{100 * value:+.1f}",
    "row": lambda value: f"{value:g}",
}


def _cell(found: Interval | None, written: str = "percent") -> str:
    if found is None:
        return "–"
    estimate, low, high = map(_FORMATS[written], (found.estimate, found.low, found.high))
    return f"{estimate} [{low}, {high}]"
