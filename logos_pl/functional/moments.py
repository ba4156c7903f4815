"""Means and centred second moments of paired vectors, streamed in one pass and merged over processes.

Sums run in the working precision (fp32, on whatever device the vectors are) around a fixed shift, the mean of the first
batch, and are carried over into fp64 on the CPU every few thousand positions, by the exact formula for joining two sets
(Chan, Golub & LeVeque 1983). So no large mean is ever subtracted from a large square, and the error does not grow with
the number of positions: about 1e-6 of the moments themselves. Vectors in fp64 are summed in fp64.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

FLUSH_POSITIONS = 8192
"""Positions whose sums stay in the working precision before they are carried over into fp64."""


class Moments(NamedTuple):
    """Moments of x at several rows paired with one y, in fp64 on the CPU.

    Attributes:
        num_pos: Positions.
        mean_x: Means of x.
        mean_y: Mean of y.
        xx: Σ (x − mean)(x − mean)ᵀ.
        xy: Σ (x − mean)(y − mean)ᵀ.
        yy: Σ (y − mean)(y − mean)ᵀ.
    """

    num_pos: int
    mean_x: Float[Tensor, "rows d_model"]
    mean_y: Float[Tensor, "d_model"]
    xx: Float[Tensor, "rows d_model d_model"]
    xy: Float[Tensor, "rows d_model d_model"]
    yy: Float[Tensor, "d_model d_model"]

    @classmethod
    def none(cls, num_rows: int, d_model: int) -> "Moments":
        """The moments of no position at all, which merge into any others."""
        square = torch.zeros(num_rows, d_model, d_model, dtype=torch.float64)
        mean = torch.zeros(num_rows, d_model, dtype=torch.float64)
        return cls(0, mean, mean[0].clone(), square, square.clone(), square[0].clone())


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two sets of positions together; ``a`` is overwritten. Source: Chan, Golub & LeVeque 1983."""
    count = a.num_pos + b.num_pos
    if count == 0:
        return a
    weight = a.num_pos * b.num_pos / count
    by_x, by_y = b.mean_x - a.mean_x, b.mean_y - a.mean_y
    return Moments(
        count,
        a.mean_x.add_(by_x, alpha=b.num_pos / count),
        a.mean_y.add_(by_y, alpha=b.num_pos / count),
        a.xx.add_(b.xx).baddbmm_(by_x[:, :, None], by_x[:, None, :], alpha=weight),
        a.xy.add_(b.xy).add_(by_x[:, :, None] * by_y, alpha=weight),
        a.yy.add_(b.yy).addr_(by_y, by_y, alpha=weight),
    )


def reduce_moments(own: Moments, all_sum: Callable[[Tensor], Tensor]) -> Moments:
    """The moments of all processes' positions together, the same in each; ``own`` is overwritten.

    Args:
        own: Moments of this process.
        all_sum: Sums an fp64 tensor over the processes; every process must call it.
    """
    count = int(all_sum(torch.tensor(own.num_pos, dtype=torch.float64)))
    if count == 0:
        return own
    mean_x = all_sum(own.mean_x * own.num_pos) / count
    mean_y = all_sum(own.mean_y * own.num_pos) / count
    by_x, by_y = own.mean_x - mean_x, own.mean_y - mean_y
    return Moments(
        count,
        mean_x,
        mean_y,
        all_sum(own.xx.baddbmm_(by_x[:, :, None], by_x[:, None, :], alpha=own.num_pos)),
        all_sum(own.xy.add_(by_x[:, :, None] * by_y, alpha=own.num_pos)),
        all_sum(own.yy.addr_(by_y, by_y, alpha=own.num_pos)),
    )


class MomentStream:
    """Collects moments batch by batch.

    Args:
        num_rows: Rows of x.
        d_model: Width of x and y.
    """

    def __init__(self, num_rows: int, d_model: int) -> None:
        self._total = Moments.none(num_rows, d_model)
        self._open: _OpenSums | None = None

    def add(self, x: Float[Tensor, "rows pos d_model"], y: Float[Tensor, "pos d_model"]) -> None:
        """Add some positions, on any device."""
        if self._open is None:
            self._open = _OpenSums(x, y)
        self._open.add(x, y)
        if self._open.count >= FLUSH_POSITIONS:
            self._flush()

    def moments(self) -> Moments:
        """The moments of all positions so far."""
        self._flush()
        return self._total

    def _flush(self) -> None:
        if self._open is not None and self._open.count > 0:
            self._total = merge(self._total, self._open.close())


class _OpenSums:
    """Sums around a shift in the working precision, on the vectors' own device."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        num_rows, _, d_model = x.shape
        self.shift_x = x.to(dtype).mean(dim=1, keepdim=True)
        self.shift_y = y.to(dtype).mean(dim=0)
        self.dtype, self.count = dtype, 0
        self.x, self.y = x.new_zeros(num_rows, d_model, dtype=dtype), x.new_zeros(d_model, dtype=dtype)
        self.xx = x.new_zeros(num_rows, d_model, d_model, dtype=dtype)
        self.xy, self.yy = torch.zeros_like(self.xx), torch.zeros_like(self.xx[0])

    def add(self, x: Tensor, y: Tensor) -> None:
        x, y = x.to(self.dtype) - self.shift_x, y.to(self.dtype) - self.shift_y
        self.count += y.shape[0]
        self.x += x.sum(dim=1)
        self.y += y.sum(dim=0)
        self.xx.baddbmm_(x.mT, x)
        self.xy.baddbmm_(x.mT, y.expand(x.shape[0], *y.shape))
        self.yy.addmm_(y.mT, y)

    def close(self) -> Moments:
        """The moments of what was added, in fp64 on the CPU; the sums start anew around the same shift."""
        count = self.count
        x, y, xx, xy, yy, shift_x, shift_y = (
            part.to(device="cpu", dtype=torch.float64, copy=True)
            for part in (self.x, self.y, self.xx, self.xy, self.yy, self.shift_x[:, 0], self.shift_y)
        )
        by_x, by_y = x / count, y / count
        moments = Moments(
            count,
            shift_x + by_x,
            shift_y + by_y,
            xx.baddbmm_(by_x[:, :, None], by_x[:, None, :], alpha=-count),
            xy.sub_(by_x[:, :, None] * by_y, alpha=count),
            yy.addr_(by_y, by_y, alpha=-count),
        )
        for part in (self.x, self.y, self.xx, self.xy, self.yy):
            part.zero_()
        self.count = 0
        return moments
