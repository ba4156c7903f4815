"""Samples of two lenses, gathered over batches."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from logos_pl.compare.module import CompareModule
from logos_pl.errors import InputError
from logos_pl.settings.model import ModelSettings


def gathered(rows_a: tuple[int, ...], rows_b: tuple[int, ...], batches: int = 2, bad: bool = False) -> CompareModule:
    """A module that has read batches of three positions; each value says its batch and row."""
    module = CompareModule(ModelSettings(model_id="demo"))
    for side, rows in (("a", rows_a), ("b", rows_b)):
        lens: Any = SimpleNamespace(rows=rows)
        origin: Any = None
        module.take(side, lens, origin)
    shared = [row for row in rows_a if row in rows_b]
    for batch in range(batches):
        values = torch.tensor([[10.0 * batch + row] * 3 for row in shared])
        if bad and batch:
            values[1, 2] = torch.nan
        module._found.append((values, values, values > 5, values, values))
        module._sequences.append(torch.full((3,), batch))
    return module


def test_rows_that_both_read_are_gathered_over_all_batches() -> None:
    found = gathered((0, 1, 3, 4), (1, 2, 3, 4)).samples()
    assert found.rows == (1, 3, 4)
    assert found.sequences.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.kl_ab_bits.tolist() == [[row] * 3 + [10 + row] * 3 for row in (1, 3, 4)]
    assert found.top1_agree.tolist() == [[False] * 3 + [True] * 3] * 3


def test_a_lens_without_finite_values_is_refused_with_its_rows() -> None:
    with pytest.raises(InputError, match=r"not finite at row\(s\) \[3\]: compare others"):
        gathered((1, 3), (1, 3), bad=True).samples()
