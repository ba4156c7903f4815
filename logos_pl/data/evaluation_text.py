"""LightningDataModules of held-out text for `validate`, and of text and suites of prompts for `test`."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule

from logos_pl.agreement import together
from logos_pl.data.held_out import Side
from logos_pl.data.held_out_text import HeldOutText, num_text_bytes, rank_and_world_size, refuse_other_share
from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.packed_text import HeldOutBatches, TextBatch
from logos_pl.data.prompt_types import Prompt
from logos_pl.data.prompts import PromptBatches, TokenizedPrompt
from logos_pl.data.reading_ahead import ReadAhead, as_it_is
from logos_pl.data.suites import FACTS, prompts_of, read_suite
from logos_pl.data.unspoken import UnspokenSuite
from logos_pl.data.unspoken_suites import read_unspoken_suite
from logos_pl.data.unspoken_tokens import REASONS, TokenizedSuite, UnspokenBatches, tokenize_suite
from logos_pl.errors import InputError
from logos_pl.io.parsing import read_bytes
from logos_pl.io.terminal import say
from logos_pl.io.yaml_parsing import MAX_YAML_BYTES
from logos_pl.settings.intermediates import OFF, IntermediatesSettings
from logos_pl.settings.text import TestTextSettings, TextSettings


class ValidationText(LightningDataModule):
    """Held-out validation text, packed with the model's tokenizer.

    Args:
        settings: Options with every `auto` resolved.
        model_id: Model whose tokenizer is used.
        revision: Revision of that model.
        gguf: GGUF file of that model.
    """

    def __init__(
        self, settings: TextSettings, model_id: str, revision: str | None = None, gguf: str | None = None
    ) -> None:
        super().__init__()
        self.settings, self.model_id, self.revision, self.gguf = settings, model_id, revision, gguf
        self.read_ahead: ReadAhead = as_it_is

    text: HeldOutText
    model: ModelTokenizer

    @together
    def setup(self, stage: str | None = None) -> None:
        """Find the dataset and pack its held-out documents.

        Raises:
            InputError: The text or the settings cannot be used.
        """
        self.model = ModelTokenizer.load(self.model_id, self.revision, self.settings.special_tokens, self.gguf)
        self.text = HeldOutText.find(self.settings, self.model, self._wanted())

    def _wanted(self) -> dict[Side, int]:
        return {"val": int(self.settings.val_seqs)}

    @together
    def val_dataloader(self) -> Iterable[TextBatch]:
        """Return this process's share of the validation sequences.

        Raises:
            InputError: They cannot be divided evenly among the processes.
        """
        return self.read_ahead("val", self.text.batches("val", self.trainer))

    def refuse_other_share(self, trained_with: float) -> None:
        """Check that the lens was trained with the same held-out fraction.

        Raises:
            InputError: The fractions differ.
        """
        refuse_other_share(self.settings.held_out_frac, trained_with)

    def same_in_all(self) -> dict[str, Any]:
        """Values that must agree in all processes, by name."""
        return {**self.text.identity(), **self.text.reading(), "val_seqs": int(self.settings.val_seqs)}


class FactText(ValidationText):
    """Validation text and a suite of facts.

    Args:
        settings: Options with every `auto` resolved.
        model_id: Model whose tokenizer is used.
        revision: Revision of that model.
        suite: `facts`, a file, or `off`.
        gguf: GGUF file of that model.

    Attributes:
        facts: The facts; set by `setup`.
    """

    def __init__(
        self,
        settings: TextSettings,
        model_id: str,
        revision: str | None = None,
        suite: str = "facts",
        gguf: str | None = None,
    ) -> None:
        super().__init__(settings, model_id, revision, gguf)
        self.suite = suite
        self.facts: list[TokenizedPrompt] = []

    @together
    def setup(self, stage: str | None = None) -> None:
        """Find the dataset and read the suite.

        Raises:
            InputError: The text, the suite or the settings cannot be used.
        """
        super().setup(stage)
        if self.suite != OFF:
            self.facts = self.model.tokenize(facts_of(self.suite, "--compare.suite"))


class TestText(ValidationText):
    """Validation text, test text, a suite of facts and one of unspoken intermediates.

    Args:
        settings: Options with every `auto` resolved.
        model_id: Model whose tokenizer is used.
        revision: Revision of that model.
        intermediates: Options of the unspoken intermediates.
        gguf: GGUF file of that model.

    Attributes:
        prompts: Prompts of the whole suite; set by `setup`.
        unspoken: Suite of unspoken intermediates and its tokens; None if off; set by `setup`.
    """

    __test__ = False  # not a pytest class

    settings: TestTextSettings

    def __init__(
        self,
        settings: TestTextSettings,
        model_id: str,
        revision: str | None = None,
        intermediates: IntermediatesSettings | None = None,
        gguf: str | None = None,
    ) -> None:
        super().__init__(settings, model_id, revision, gguf)
        self.intermediates = IntermediatesSettings() if intermediates is None else intermediates
        self.unspoken: tuple[UnspokenSuite, TokenizedSuite] | None = None
        # With a short suite, a process may get no fact; Lightning sets this to False on every new data module.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.prompts: list[TokenizedPrompt] = []

    @together
    def setup(self, stage: str | None = None) -> None:
        """Find the dataset and read the suite.

        Raises:
            InputError: The text, a suite or the settings cannot be used.
        """
        self.model = ModelTokenizer.load(self.model_id, self.revision, self.settings.special_tokens, self.gguf)
        if self.intermediates.suite != OFF:
            suite = read_unspoken_suite(self.intermediates.suite)
            tokenized = tokenize_suite(suite.items, self.model)
            if tokenized.items:
                self.unspoken = suite, tokenized
            elif rank_and_world_size(self.trainer)[0] == 0:
                reasons = "; ".join(f"{count}: {REASONS[reason]}" for reason, count in tokenized.counts().items())
                say(f"no item of {suite.name} can be scored with this tokenizer ({reasons}): it is left out")
        self.prompts = self.model.tokenize(
            facts_of(self.settings.suite, "--data.suite"), speaks=rank_and_world_size(self.trainer)[0] == 0
        )
        self.text = HeldOutText.find(self.settings, self.model, self._wanted())

    def _wanted(self) -> dict[Side, int]:
        return {"val": int(self.settings.val_seqs), "test": self.settings.test_seqs}

    @together
    def test_dataloader(self) -> tuple[Iterable[Any], ...]:
        """Return this process's share of the test sequences and of the suites.

        Raises:
            InputError: The sequences cannot be divided evenly among the processes.
        """
        rank, world_size = rank_and_world_size(self.trainer)
        loaders: list[Any] = [
            self.text.batches("test", self.trainer),
            PromptBatches(self.prompts, rank=rank, world_size=world_size),
        ]
        if self.unspoken is not None:
            loaders.append(UnspokenBatches(self.unspoken[1].items, rank, world_size))
        return tuple(self.read_ahead("test", loader) for loader in loaders)

    def all_validation_batches(self) -> HeldOutBatches:
        """All validation sequences, the same in every process; temperatures are fitted on them."""
        return self.text.all_batches("val")

    def evaluated_on(self) -> dict[str, Any]:
        """Description of the evaluation data for the record of the verdict."""
        source = self.text.source
        suite = suite_file(self.settings.suite)
        return {
            "suite": suite.name,
            "suite_sha256": hashlib.sha256(read_bytes(suite, MAX_YAML_BYTES)).hexdigest(),
            "facts": len(self.prompts),
            "dataset": source.repo_id,
            "name": source.name,
            "split": source.split,
            "revision": source.commit or source.revision,
            "format": self.settings.format,
            "special_tokens": self.settings.special_tokens,
            "held_out_frac": self.settings.held_out_frac,
            "sequences": len(self.text.sequences["test"]),
            "seq_len": self.settings.seq_len,
            "positions_per_seq": self.text.draw("test").num_positions,
            "position_range": list(self.settings.drawn_range),
        }

    def bytes_per_token(self) -> float:
        """Mean UTF-8 bytes per token of the test sequences, without special tokens."""
        num_bytes, tokens = num_text_bytes(self.text.sequences["test"], self.model)
        return num_bytes / tokens


def suite_file(suite: str) -> Path:
    """File of a suite of facts: the bundled one, or the user's."""
    return FACTS if suite == "facts" else Path(suite)


def facts_of(suite: str, option: str) -> list[Prompt]:
    """Facts of a suite, without the variants and controls that only `predict` uses.

    Args:
        suite: `facts`, or a file.
        option: The option that named it, for messages.

    Raises:
        InputError: The file is invalid, or a fact has no answer.
    """
    facts = read_suite(suite_file(suite))
    mute = next((fact for fact in facts if fact.answer is None), None)
    if mute is not None:
        raise InputError(f"{option}: the fact {mute.fact_id} (line {mute.line}) has no answer: give it one.")
    own = {fact.fact_id for fact in facts}
    return [prompt for prompt in prompts_of(facts) if prompt.prompt_id in own and prompt.variant == "orig"]
