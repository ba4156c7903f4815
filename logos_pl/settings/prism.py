"""Options of a Prism lens."""

from dataclasses import dataclass
from typing import Literal

from logos_pl.bounds import check_number
from logos_pl.errors import InputError
from logos_pl.functional.whitening import check_shrinkage
from logos_pl.settings.text import MAX_TOKENS


@dataclass(frozen=True, kw_only=True)
class PrismSettings:
    """How a Prism lens is fitted and where it is stored.

    Args:
        positions: number of text positions over which means and covariances are taken.
        whiten: whiten rows by the `diagonal` of their covariance or by the `full` covariance; `auto`: the one with the
            lower KL on held-out text.
        rank: number of directions that the rotation keeps, those most correlated with the last row; the others are
            replaced by the mean of the last row. `full`: all directions (an orthogonal matrix).
        shrinkage: weight of the identity in the shrunk covariances; at 0, a rank-deficient covariance is an error.
        folder: folder of Prism lenses, one subfolder per model. When a lens is replaced, the old one is kept as
            <model>.replaced-<YYYYMMDD-HHMM> (UTC).

    Raises:
        InputError: A number is out of its bounds.
    """

    positions: int = 131_072
    whiten: Literal["auto", "diagonal", "full"] = "auto"
    rank: int | Literal["full"] = "full"
    shrinkage: float = 1e-3
    folder: str = "checkpoints/prisms"

    def __post_init__(self) -> None:
        check_number("--prism.positions", self.positions, at_least=1, at_most=MAX_TOKENS)
        check_shrinkage(self.shrinkage)
        if self.rank != "full":
            check_number("--prism.rank", self.rank, at_least=0)
        if self.rank == 0:
            raise InputError("--prism.rank 0 would give the same output at every row: give 1 or more, or `full`.")
