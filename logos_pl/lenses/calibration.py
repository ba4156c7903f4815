"""One temperature per row, fitted on text: the baseline for gains that come from calibration alone."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError, RunError
from logos_pl.functional.blocks import position_pieces
from logos_pl.functional.temperature import temperature_slope
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens

INV_TAU_BOUNDS = (1e-3, 1e3)
"""Smallest and largest 1/τ: the best τ is infinite where a row's logits are anti-correlated with the model's. Their
geometric mean is 1, so that a row whose logits are all equal, for which every τ is as good, keeps 1."""

_RELATIVE_TOLERANCE = 1e-5
# Newton usually takes 6 steps; bisection alone narrows the bracket from 1e6 to 1 + 1e-5 in 21.
_MAX_STEPS = 50


class TemperedLens(Lens):
    """Any lens with an additional temperature per row. Source: docs/method.md §6, the second baseline.

    Args:
        lens: The lens whose logits are divided by τ.
        inv_tau: 1/τ for every row 0 … n; the last is 1, as row n is the model's own distribution.

    Raises:
        InputError: If there is not one finite number above 0 for each row, or the last is not 1.
    """

    def __init__(self, lens: Lens, inv_tau: Float[Tensor, "rows"]) -> None:
        num_rows = lens.head.num_rows
        if inv_tau.shape != (num_rows,):
            raise InputError(f"{inv_tau.numel()} temperatures were given: give one for each of the {num_rows} rows.")
        if not bool((inv_tau.isfinite() & (inv_tau > 0)).all()) or float(inv_tau[-1]) != 1.0:
            raise InputError(f"1/τ is {inv_tau.tolist()}: give finite numbers above 0, and 1 for the last row.")
        self.lens = lens
        self.inv_tau = inv_tau.detach().float()

    @property
    def head(self) -> Head:
        """The frozen head."""
        return self.lens.head

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows that the inner lens reads."""
        return self.lens.rows

    def decode_inputs(
        self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]
    ) -> tuple[Float[Tensor, "rows pos d_head"], Float[Tensor, "rows"]]:
        """The inner lens's result, with its 1/τ multiplied by the row's."""
        x, inv_tau = self.lens.decode_inputs(h, rows)
        return x, inv_tau * self.inv_tau[list(rows)].to(inv_tau.device)


def fit_temperatures(
    lens: Lens, h: Float[Tensor, "rows pos d_model"], *, block_bytes: int = 2**28
) -> Float[Tensor, "rows"]:
    """1/τ per row that minimises the mean KL(P_final ‖ softmax(z/τ)) over positions; 1 for row n. In fp32, on the CPU.

    The divergence is convex in 1/τ: Newton's method inside a bracket, for all rows at once, each
    until its 1/τ has converged to a relative 1e-5. A row whose logits are all equal keeps 1.

    Args:
        lens: The lens to calibrate, usually the norm lens.
        h: Residuals of rows 0 … n at positions of text not used for results; on any device, in any precision.
        block_bytes: Upper bound on one block of logits, and on one of normed residuals.

    Raises:
        InputError: If ``h`` has no positions, or other rows than the model.
        RunError: If a row's logits are not finite; the row is named.
    """
    num_rows, num_pos, _ = h.shape
    if num_pos == 0 or num_rows != lens.head.num_rows:
        raise InputError(
            f"Temperatures cannot be fitted on {num_rows} rows of {num_pos} positions: give all "
            f"{lens.head.num_rows} rows of at least one position."
        )
    fitted = torch.ones(num_rows, dtype=torch.float64)
    search = _Search(num_rows - 1)
    for _ in range(_MAX_STEPS):
        if not (rows := search.unconverged()):
            break
        search.step(rows, *_slopes(lens, h, rows, search.at[rows], block_bytes))
    fitted[:-1] = search.at
    return fitted.float()


def _slopes(
    lens: Lens, h: Tensor, rows: list[int], inv_tau: Float[Tensor, "rows"], block_bytes: int
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Slope and curvature of each row's divergence, summed over positions in fp64 on the CPU."""
    last = lens.head.num_rows - 1
    sums = torch.zeros(2, len(rows), dtype=torch.float64)
    for pos in position_pieces((len(rows) + 1, *h.shape[1:]), block_bytes):
        x, own = lens.decode_inputs(h[[*rows, last], pos], [*rows, last])
        scaled = own[:-1] * inv_tau.to(own)
        found = temperature_slope(x[:-1], x[-1], scaled, lens.head.unembedding, block_bytes=block_bytes)
        sums += torch.stack([part.cpu().double().sum(1) for part in found])
    slope, curvature = sums
    # The derivatives are with respect to the total 1/τ; the lens's own 1/τ is a constant factor of it.
    own_part = own[:-1].cpu().double()
    return slope * own_part, curvature * own_part.square()


class _Search:
    """State of the search for each row's 1/τ: value, bracket, last step in log 1/τ, whether converged."""

    def __init__(self, num_rows: int) -> None:
        self.at = torch.ones(num_rows, dtype=torch.float64)
        self.low, self.high = (torch.full_like(self.at, bound) for bound in INV_TAU_BOUNDS)
        self.last_step = torch.full_like(self.at, torch.inf)
        self.converged = torch.zeros(num_rows, dtype=torch.bool)

    def unconverged(self) -> list[int]:
        """Rows whose 1/τ is still moving."""
        return (~self.converged).nonzero().flatten().tolist()

    def step(self, rows: list[int], slope: Float[Tensor, "rows"], curvature: Float[Tensor, "rows"]) -> None:
        """One step of Newton, or of bisection in log 1/τ where Newton would leave the bracket.

        Raises:
            RunError: If a slope is not finite.
        """
        broken = [row for row, finite in zip(rows, slope.isfinite().tolist(), strict=True) if not finite]
        if broken:
            raise RunError(
                f"The logits of rows {broken} are not finite, so no temperature fits them: run the model in float32 "
                "or bfloat16 (--model.dtype)."
            )
        at = self.at[rows]
        self.high[rows] = high = torch.where(slope > 0, at, self.high[rows])
        self.low[rows] = low = torch.where(slope < 0, at, self.low[rows])
        newton = at - slope / curvature
        # Newton may also crawl where the divergence is far from a parabola: each step must be at most half the last.
        good = (newton > low) & (newton < high) & ((newton / at).log().abs() < self.last_step[rows] / 2)
        moved = torch.where(good, newton, (low * high).sqrt())
        self.last_step[rows] = length = (moved / at).log().abs()
        self.at[rows] = moved
        self.converged[rows] = length < _RELATIVE_TOLERANCE
