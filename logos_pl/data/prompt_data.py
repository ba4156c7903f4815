"""LightningDataModule of the prompts of a sweep."""

from collections.abc import Iterable

from lightning.pytorch import LightningDataModule

from logos_pl.agreement import together
from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.prompt_types import Prompt
from logos_pl.data.prompts import PromptBatch, PromptBatches, TokenizedPrompt
from logos_pl.data.reading_ahead import ReadAhead, as_it_is
from logos_pl.data.suites import FACTS, PROBE, prompts_of, read_suite
from logos_pl.errors import InputError
from logos_pl.settings.text import PromptSettings


class PromptData(LightningDataModule):
    """Tokenised prompts.

    Args:
        settings: Options of the prompts.
        model_id: Model whose tokenizer is used.
        revision: Revision of that model.
        gguf: GGUF file of that model.

    Attributes:
        prompts: The prompts; set by `setup`.
    """

    def __init__(
        self, settings: PromptSettings, model_id: str, revision: str | None = None, gguf: str | None = None
    ) -> None:
        super().__init__()
        self.settings, self.model_id, self.revision, self.gguf = settings, model_id, revision, gguf
        self.read_ahead: ReadAhead = as_it_is
        self.prompts: list[TokenizedPrompt] = []

    @together
    def setup(self, stage: str | None = None) -> None:
        """Read the prompts.

        Raises:
            InputError: An answer is given without a prompt, the file is invalid, or a prompt does not fit the model.
        """
        model = ModelTokenizer.load(self.model_id, self.revision, self.settings.special_tokens, self.gguf)
        self.prompts = model.tokenize(self._prompts(), speaks=self.trainer is None or self.trainer.global_rank == 0)

    def predict_dataloader(self) -> Iterable[PromptBatch]:
        """Return batches of prompts in order."""
        return self.read_ahead("predict", PromptBatches(self.prompts))

    @property
    def num_prompts(self) -> int:
        """Number of prompts, including variants and controls."""
        return len(self.prompts)

    def _prompts(self) -> list[Prompt]:
        given = self.settings
        if given.token_ids is not None:
            return [Prompt("prompt", "orig", "", given.answer, token_ids=tuple(given.token_ids))]
        if given.prompt is None and given.answer is not None:
            raise InputError("--data.answer needs --data.prompt: give the prompt, or a file with --data.prompts.")
        if given.prompt is not None:
            return [Prompt("prompt", "orig", given.prompt, given.answer)]
        packaged = {"probe": PROBE, "facts": FACTS}
        return prompts_of(read_suite(packaged.get(given.prompts, given.prompts)))
