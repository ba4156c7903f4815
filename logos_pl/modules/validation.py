"""LightningModule of `logos-pl validate`: evaluates every lens on the validation text."""

from logos_pl.kinds.registry import kinds
from logos_pl.modules.base import LensModule


class ValidationModule(LensModule):
    """Evaluates the loaded lenses on held-out text."""

    def on_validation_epoch_start(self) -> None:
        """Create the metrics, after the lenses are loaded."""
        self.validate_lenses(kind.name for kind in kinds() if kind.validated and kind.name in self.lenses)

    def on_validation_epoch_end(self) -> None:
        """Merge the results of all processes."""
        self.validation = self.take_readings()
