"""Sums over processes, with processes that a strategy stands in for; tests of whole runs have real ones."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from logos_pl.modules.all_sum import all_sum


class Two:
    """A trainer of two processes, of which the other has twice as much."""

    world_size = 2

    def __init__(self) -> None:
        self.reduced: list[tuple[int, ...]] = []
        self.strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=self.reduce)

    def reduce(self, tensor: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        self.reduced.append(tuple(tensor.shape))
        return tensor + 2 * tensor


@pytest.mark.parametrize("shape", [(5,), (4, 6), (3, 4, 6)])
def test_the_sum_over_two_processes_keeps_shape_and_precision(shape: tuple[int, ...]) -> None:
    own = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = own.clone()
    found = all_sum(Two(), own)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, 3 * before, rtol=1e-15, atol=0)
    assert torch.equal(own, before), "what a process has of its own stays as it is"


@pytest.mark.parametrize(
    ("shape", "reduced"), [((5,), [(5,)]), ((4, 6), [(4, 6)]), ((3, 4, 6), [(4, 6), (4, 6), (4, 6)])]
)
def test_matrices_are_moved_to_the_device_one_at_a_time(shape: tuple[int, ...], reduced: list[tuple[int, ...]]) -> None:
    trainer = Two()
    all_sum(trainer, torch.ones(shape))
    assert trainer.reduced == reduced


def test_one_process_alone_gets_its_own_tensor() -> None:
    alone: Any = SimpleNamespace(world_size=1)
    own = torch.ones(3, 4, 6)
    assert all_sum(alone, own) is own
