"""LightningModule of `logos-pl validate`: evaluates every lens on the validation text."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from logos_pl.data.packed_text import TextBatch
from logos_pl.errors import InputError
from logos_pl.kinds.registry import kind_of, kinds
from logos_pl.lenses.decoding import lens_transfer
from logos_pl.modules.base import QUANTITIES, LensModule, refuse_nonfinite
from logos_pl.modules.row_means import RowMeans
from logos_pl.settings.model import ModelSettings


class TransferMatrix(NamedTuple):
    """A lens's maps at every row: means over held-out positions.

    Attributes:
        lens: Name of the lens.
        maps: Rows that the maps were fitted for.
        quantities: By name, the mean for each map (outer) at each row 0 … n (inner).
    """

    lens: str
    maps: tuple[int, ...]
    quantities: dict[str, Float[Tensor, "maps rows"]]


class ValidationModule(LensModule):
    """Evaluates the loaded lenses on held-out text.

    Args:
        settings: Options of the frozen model and its head.
        matrix: Lens whose maps are also read at every row; None: no transfer matrix.

    Attributes:
        transfer: Transfer matrix of that lens; set at the end of the validation.
    """

    def __init__(self, settings: ModelSettings, matrix: str | None = None) -> None:
        super().__init__(settings)
        self.matrix = matrix
        self.maps: list[int] = []
        self.transfer: TransferMatrix | None = None
        self.matrix_means: Mapping[str, RowMeans] = {}

    def on_validation_epoch_start(self) -> None:
        """Create the metrics, after the lenses are loaded.

        Raises:
            InputError: The lens of the transfer matrix is not loaded.
        """
        self.validate_lenses(kind.name for kind in kinds() if kind.validated and kind.name in self.lenses)
        if self.matrix is None:
            return
        if self.matrix not in self.row_means:
            raise InputError(
                f"--validate.matrix {self.matrix}: this lens is not loaded, only {', '.join(self.row_means)}: fit it, "
                "or name another."
            )
        self.maps = maps_of(self.matrix, self.lenses[self.matrix].rows)
        size = len(self.maps) * len(self.rows)
        self.matrix_means = self.place_means({"matrix": RowMeans(size, QUANTITIES)})

    def _read_rows(self, h: Float[Tensor, "rows pos d_model"], batch: TextBatch) -> None:
        super()._read_rows(h, batch)
        if self.matrix is not None:
            found = lens_transfer(self.lenses[self.matrix], h, self.maps, block_bytes=self.settings.block_bytes)
            self.matrix_means["matrix"].update(**found._asdict())

    def on_validation_epoch_end(self) -> None:
        """Merge the results of all processes.

        Raises:
            RunError: A lens gave values that are not finite.
        """
        self.validation = self.take_readings()
        if self.matrix is None:
            return
        means = {key: value.cpu().reshape(len(self.maps), -1) for key, value in self._matrix().items()}
        refuse_nonfinite({self.matrix: {"nonfinite": means.pop("nonfinite").sum(0)}})
        self.transfer = TransferMatrix(self.matrix, tuple(self.maps), means)

    def _matrix(self) -> dict[str, Tensor]:
        return self.matrix_means["matrix"].compute()


def maps_of(lens: str, rows: tuple[int, ...]) -> list[int]:
    """Rows at which a lens has a map of its own, where it differs from the norm lens."""
    first = kind_of(lens).first_row
    return [row for row in rows[:-1] if first is not None and row >= first]
