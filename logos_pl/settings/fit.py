"""Options of a fit beside those of model and text: when it stops, and where its lens goes."""

from dataclasses import dataclass
from pathlib import Path

from logos_pl.bounds import check_number


@dataclass(frozen=True, kw_only=True)
class StoppingSettings:
    """When a fit stops early.

    Args:
        patience: validations without improvement before the fit stops.
        min_delta_bits: a smaller decrease than this does not count as an improvement.

    Raises:
        InputError: A number is out of its bounds.
    """

    patience: int = 3
    min_delta_bits: float = 0.0

    def __post_init__(self) -> None:
        check_number("--early_stopping.patience", self.patience, at_least=1)
        check_number("--early_stopping.min_delta_bits", self.min_delta_bits, at_least=0)


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Where lenses are kept.

    Args:
        folder: folder of the artifacts; a lens is in the subfolder named after the model. Another lens that is there
            when one is written is kept beside it, as <model>.replaced-<YYYYMMDD-HHMM> (UTC).
    """

    folder: str = "checkpoints/tuned_lenses"

    def of(self, clean_model_name: str) -> Path:
        """Where the lens of a model is."""
        return Path(self.folder) / clean_model_name
