"""LightningModule of `logos-pl predict`: evaluates every lens at every row of prompts."""

from logos_pl.data.prompts import PromptBatch
from logos_pl.data.reading_ahead import Stage
from logos_pl.lm.residuals import Request
from logos_pl.modules.base import LensModule
from logos_pl.settings.model import ModelSettings
from logos_pl.sweeps.attribution import DirectLogitAttribution
from logos_pl.sweeps.reader import BatchReading, PromptReader


class SweepModule(LensModule):
    """Reads batches of prompts with one forward pass each.

    Args:
        settings: Options of the frozen model and its head.
        attribution: Whether to run direct logit attribution.
        keep_residuals: Whether to return the residual stream of every prompt.
    """

    def __init__(self, settings: ModelSettings, attribution: bool = False, keep_residuals: bool = False) -> None:
        super().__init__(settings)
        self.attribution, self.keep_residuals = attribution, keep_residuals
        self.reader: PromptReader | None = None

    def make_reader(self) -> None:
        """Create the reader, once the lenses are loaded.

        Raises:
            InputError: Direct logit attribution is requested but not possible for the model.
        """
        attribution = DirectLogitAttribution(self.frozen, self.head) if self.attribution else None
        self.reader = PromptReader(self.frozen, self.lenses, self.settings.block_bytes, attribution)

    def request(self, stage: Stage, batch: PromptBatch) -> Request:
        """The reader's request for a batch."""
        assert self.reader is not None
        return self.reader.request(batch)

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> BatchReading:
        """Evaluate every lens at every row and position of a batch."""
        assert self.reader is not None
        return self.reader.read(batch, self.keep_residuals)
