from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import numpy as np
import pytest
import torch
from torch import Tensor

from logos_pl.functional.moments import FLUSH_POSITIONS, Moments, MomentStream, merge, reduce_moments

ROWS, WIDTH = 2, 5


def paired(count: int, seed: int, mean: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, count, WIDTH, generator=generator, dtype=torch.float64)
    mix = torch.randn(ROWS, WIDTH, WIDTH, generator=generator, dtype=torch.float64)
    offset = mean * torch.arange(1, WIDTH + 1, dtype=torch.float64)
    return x @ mix + offset, torch.randn(count, WIDTH, generator=generator, dtype=torch.float64) + x[0] - offset


def by_numpy(x: Tensor, y: Tensor) -> Moments:
    """The definition, position by position, from NumPy's own covariance."""
    joint = [np.cov(np.concatenate([row.numpy(), y.numpy()], axis=1).T, bias=True) * len(y) for row in x]
    blocks = [torch.from_numpy(matrix) for matrix in joint]
    return Moments(
        len(y),
        x.mean(dim=1),
        y.mean(dim=0),
        torch.stack([block[:WIDTH, :WIDTH] for block in blocks]),
        torch.stack([block[:WIDTH, WIDTH:] for block in blocks]),
        blocks[0][WIDTH:, WIDTH:],
    )


def streamed(x: Tensor, y: Tensor, cuts: list[int]) -> Moments:
    stream = MomentStream(ROWS, WIDTH)
    for start, stop in zip([0, *cuts], [*cuts, len(y)], strict=True):
        stream.add(x[:, start:stop], y[start:stop])
    return stream.moments()


def assert_same(found: Moments, wanted: Moments, tolerance: float) -> None:
    assert found.num_pos == wanted.num_pos
    for name in Moments._fields[1:]:
        a, b = getattr(found, name), getattr(wanted, name)
        assert a.dtype == torch.float64
        assert float((a - b).norm() / b.norm()) < tolerance, name


@pytest.mark.parametrize("cuts", [[], [1], [3, 4, 700]])
def test_streamed_moments_are_those_of_all_positions_at_once(cuts: list[int]) -> None:
    x, y = paired(1000, seed=1, mean=3.0)
    assert_same(streamed(x, y, cuts), by_numpy(x, y), 1e-13)


def test_fp32_keeps_seven_digits_where_the_mean_is_a_thousand_times_the_spread_and_sums_are_carried_over() -> None:
    x, y = paired(3 * FLUSH_POSITIONS + 100, seed=2, mean=1000.0)
    x, y = x.float(), y.float()
    cuts = list(range(500, len(y), 500))
    wanted = by_numpy(x.double(), y.double())
    assert_same(streamed(x, y, cuts), wanted, 3e-6)
    naive = torch.einsum("rpd,rpe->rde", x, x) - len(y) * x.mean(1)[:, :, None] * x.mean(1)[:, None]
    assert float((naive - wanted.xx).norm() / wanted.xx.norm()) > 1e-3, "else the shift would not be needed"


def test_asking_for_moments_in_between_changes_nothing() -> None:
    x, y = paired(300, seed=3)
    stream = MomentStream(ROWS, WIDTH)
    stream.add(x[:, :100], y[:100])
    stream.moments()
    stream.add(x[:, 100:], y[100:])
    assert_same(stream.moments(), by_numpy(x, y), 1e-13)


def test_merged_moments_are_those_of_both_sets_whatever_their_sizes() -> None:
    (x1, y1), (x2, y2) = paired(7, seed=4, mean=5.0), paired(400, seed=5, mean=-2.0)
    both = by_numpy(torch.cat([x1, x2], dim=1), torch.cat([y1, y2]))
    assert_same(merge(by_numpy(x1, y1), by_numpy(x2, y2)), both, 1e-13)
    assert_same(merge(Moments.none(ROWS, WIDTH), by_numpy(x2, y2)), by_numpy(x2, y2), 1e-13)


class Summing:
    """An all-reduce over threads: everyone's tensor is on the table before anyone adds them up."""

    def __init__(self, processes: int) -> None:
        self.table: dict[int, Tensor] = {}
        self.barrier = Barrier(processes)

    def of(self, process: int, tensor: Tensor) -> Tensor:
        self.table[process] = tensor
        self.barrier.wait()
        total = torch.stack(list(self.table.values())).sum(0)
        self.barrier.wait()
        return total


def test_every_process_gets_the_moments_of_all_their_positions() -> None:
    parts = [paired(7, seed=4, mean=5.0), paired(400, seed=5, mean=-2.0), paired(50, seed=6)]
    whole = by_numpy(torch.cat([x for x, _ in parts], dim=1), torch.cat([y for _, y in parts]))
    summing = Summing(len(parts))
    with ThreadPoolExecutor(len(parts)) as pool:
        running = [
            pool.submit(reduce_moments, by_numpy(*part), partial(summing.of, process))
            for process, part in enumerate(parts)
        ]
        for reduced in [process.result() for process in running]:
            assert_same(reduced, whole, 1e-13)


def test_no_positions_at_all_stay_none() -> None:
    nothing = reduce_moments(Moments.none(ROWS, WIDTH), lambda tensor: tensor)
    assert nothing.num_pos == 0
    assert MomentStream(ROWS, WIDTH).moments().num_pos == 0
