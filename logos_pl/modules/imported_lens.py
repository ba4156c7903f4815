"""A lens that others trained is read beside ours, in a sweep and in a test."""

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.agreement import together
from logos_pl.artifacts.tuned_lens_format import ImportedOrigin, find_imported_lens, load_imported_lens, read_config
from logos_pl.io.terminal import say
from logos_pl.lm.sources import filed_under
from logos_pl.modules.base import LensModule


class ImportedLens(Callback):
    """Puts a lens of the `tuned-lens` package among the module's lenses, as `imported`.

    Args:
        reference: its folder, or the repo id of a Space that holds such lenses.

    Attributes:
        origin: where it comes from; None until it was read.
    """

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.origin: ImportedOrigin | None = None

    @together
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the lens before the model is loaded.

        Raises:
            InputError: there is none, or it is of another kind.
        """
        assert isinstance(pl_module, LensModule)
        read_config(find_imported_lens(self.reference, filed_under(pl_module.settings.model_id)).config)

    @together
    def _read(self, trainer: Trainer, module: LensModule) -> None:
        lens, self.origin = load_imported_lens(self.reference, module.frozen, module.head)
        module.add_lens("imported", lens, self.origin)
        if trainer.is_global_zero:
            sentence = f"imported lens: trained for {self.origin.base_model} with the tuned-lens package"
            say(sentence)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the lens in place."""
        assert isinstance(pl_module, LensModule)
        self._read(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the lens in place."""
        assert isinstance(pl_module, LensModule)
        self._read(trainer, pl_module)
