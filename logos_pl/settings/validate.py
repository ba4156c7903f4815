"""Options of `logos-pl validate`."""

from dataclasses import dataclass

from logos_pl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ValidateSettings:
    """Transfer between rows.

    Args:
        matrix: name of a lens (`tuned`, `jacobian`, or an imported one) whose map for each row is also applied at every
            other row; writes the KL divergences as CSV and plot. Costs as many decodings as the lens has maps.
        out_dir: output folder of the matrix; default: a new folder in `validations` in the log folder. Results are
            never overwritten.

    Raises:
        InputError: A folder is given without a matrix.
    """

    matrix: str | None = None
    out_dir: str | None = None

    def __post_init__(self) -> None:
        if self.out_dir is not None and self.matrix is None:
            raise InputError(
                "--validate.out_dir is the output folder of --validate.matrix: give both, or leave it out."
            )
