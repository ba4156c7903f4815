"""Options of a fit other than model and text: early stopping, and the folder of the lens."""

from dataclasses import dataclass
from pathlib import Path

from logos_pl.bounds import check_number


@dataclass(frozen=True, kw_only=True)
class StoppingSettings:
    """Early stopping.

    Args:
        patience: stop after this many consecutive validations without a significant improvement of the held-out KL: one
            whose 95% bootstrap interval, paired by sequence, lies above 0.

    Raises:
        InputError: A number is out of its bounds.
    """

    patience: int = 3

    def __post_init__(self) -> None:
        check_number("--early_stopping.patience", self.patience, at_least=1)


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Where tuned lenses are stored.

    Args:
        folder: folder of tuned lenses, one subfolder per model. When a lens is replaced, the old one is kept as
            <model>.replaced-<YYYYMMDD-HHMM> (UTC).
    """

    folder: str = "checkpoints/tuned_lenses"

    def of(self, clean_model_name: str) -> Path:
        """Folder of the lens of a model."""
        return Path(self.folder) / clean_model_name
