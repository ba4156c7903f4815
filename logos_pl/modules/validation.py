"""`logos-pl validate`: every lens on the text that decided on stopping."""

from logos_pl.kinds.registry import kinds
from logos_pl.modules.base import LensModule


class ValidationModule(LensModule):
    """Reads held-out text with the lenses that were loaded."""

    def on_validation_epoch_start(self) -> None:
        """Begin, now that the lenses are in place."""
        self.validate_lenses(kind.name for kind in kinds() if kind.validated and kind.name in self.lenses)

    def on_validation_epoch_end(self) -> None:
        """Merge what the processes have read."""
        self.validation = self.take_readings()
