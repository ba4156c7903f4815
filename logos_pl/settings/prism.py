"""Options of a Prism lens."""

from dataclasses import dataclass
from typing import Literal

from logos_pl.bounds import check_number
from logos_pl.errors import InputError
from logos_pl.functional.whitening import check_shrinkage
from logos_pl.settings.text import MAX_TOKENS


@dataclass(frozen=True, kw_only=True)
class PrismSettings:
    """How a prism is fitted, and where prisms are.

    Args:
        positions: distinct positions of text that the moments are of.
        whiten: whitening of the rows by their `diagonal` or by their `full` covariance; `auto`: whichever has the lower
            held-out divergence.
        rank: directions of the rotation that are kept, those that correlate most with the last row; the others go to
            its mean. `full`: all of them, which makes it orthogonal.
        shrinkage: share of the identity in the covariances; 0 refuses a rank-deficient one.
        folder: folder of the prisms; a model's is in the subfolder named after it. Another prism that is there is kept
            beside it, as <model>.replaced-<YYYYMMDD-HHMM> (UTC).

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
            raise InputError("--prism.rank 0 would read the same in every row: give 1 or more, or `full`.")
