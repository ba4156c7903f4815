"""CSV of unspoken intermediates: one line per intermediate of each item. Source: docs/intermediates.md."""

import csv
import io
import math
from collections.abc import Callable

from torch import Tensor

from logos_pl.data.unspoken import UnspokenItem
from logos_pl.data.unspoken_tokens import TokenizedItem, TokenizedSuite
from logos_pl.functional.pass_at_k import best_rank, first_row
from logos_pl.gates.unspoken_evaluator import UnspokenReadings


def unspoken_csv(tokenized: TokenizedSuite, readings: UnspokenReadings, strings: Callable[[int], str]) -> str:
    """CSV of the ranks by intermediate and lens; items that cannot be scored come last, with the reason.

    `best_rank_*` is the best rank over all rows; `first_row_*` is the first row with a rank of at most ten, empty if
    there is none.

    Args:
        tokenized: The suite.
        readings: Ranks of all lenses.
        strings: Text of a token.
    """
    header = ["set", "item_id", "status", "intermediate", "tokens", "answer", "answer_tokens", "answer_final_rank"]
    for lens in readings.lenses:
        header += [f"best_rank_{lens}", f"first_row_{lens}", f"answer_first_row_{lens}"]
    lines: list[list[object]] = []
    columns = [
        (best_rank(ranks.intermediates), first_row(ranks.intermediates), first_row(ranks.answers))
        for ranks in readings.lenses.values()
    ]
    never = readings.lenses["norm"].answers.shape[1]
    word = 0
    for number, item in enumerate(readings.items):
        for which, tokens in enumerate(item.intermediates):
            line = _beginning(item, which, tokens, strings)
            line.append(_whole(readings.final_rank[number], math.inf))
            for best, first, answer in columns:
                line += [_whole(best[word], math.inf), _whole(first[word], never), _whole(answer[number], never)]
            lines.append(line)
            word += 1
    lines += [_unscored(item, reason, len(header)) for item, reason in tokenized.unscored]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def _beginning(item: TokenizedItem, which: int, tokens: tuple[int, ...], strings: Callable[[int], str]) -> list[object]:
    answer = item.item.target[0] if item.item.target else None
    return [
        item.item.set_name,
        item.item.item_id,
        "scored",
        item.item.intermediates[which][0],
        "|".join(map(strings, tokens)),
        answer,
        "|".join(map(strings, item.target)) or None,
    ]


def _unscored(item: UnspokenItem, reason: str, width: int) -> list[object]:
    words = " ".join(spellings[0] for spellings in item.intermediates)
    return [item.set_name, item.item_id, reason, words, *[None] * (width - 4)]


def _whole(value: Tensor, none: float) -> int | None:
    number = float(value)
    return None if number == none else int(number)
