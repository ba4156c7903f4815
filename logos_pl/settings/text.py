"""Options of the text that a command reads, and of prompts."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from logos_pl.bounds import check_number
from logos_pl.errors import InputError

MAX_TOKENS = 10**15
MAX_SEQ_LEN = 2**24
MAX_SEQS = 10**7
MAX_LANES = 2**16


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """The text, and what of it is held out.

    Args:
        dataset: Hub id, local folder laid out the same way, or a single .parquet, .jsonl or .txt file; `demo` is the
            text that comes with the package. In a .txt file each paragraph (between blank lines) is a document.
        name: Configuration of the dataset. Left out: the dataset's default (for fineweb-edu CC-MAIN-2025-26).
        split: Split to read; held-out text is set aside from it by a hash of each document.
        revision: Branch, tag or commit of a Hub dataset. Left out: main (for fineweb-edu v1.4.0).
        text_column: Column that holds the text.
        seq_len: Tokens per packed sequence.
        micro_batch_seqs: Sequences per forward pass; `auto` chooses by the device.
        positions_per_seq: Positions per sequence that are read. `auto`: the schedule's.
        position_range: Part of the sequence that positions are drawn from, as two fractions: from the first up to, not
            including, the second. `auto`: the schedule's.
        held_out_frac: Share of the documents held out for validation, and again as many for test.
        val_seqs: Packed sequences of held-out text in a validation.

    Raises:
        InputError: A number is out of its bounds.
    """

    dataset: str = "HuggingFaceFW/fineweb-edu"
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    text_column: str = "text"
    seq_len: int = 512
    micro_batch_seqs: int | Literal["auto"] = "auto"
    positions_per_seq: int | Literal["auto"] = "auto"
    position_range: tuple[float, float] | Literal["auto"] = "auto"
    held_out_frac: float = 0.02
    val_seqs: int = 64

    def __post_init__(self) -> None:
        self._check("seq_len", MAX_SEQ_LEN)
        self._check("micro_batch_seqs", MAX_SEQS)
        self._check("positions_per_seq", MAX_SEQ_LEN)
        self._check("val_seqs", MAX_SEQS)
        # Validation and test take that much each.
        check_number("--data.held_out_frac", self.held_out_frac, above=0, below=0.5)
        low, high = (0, 1) if self.position_range == "auto" else self.position_range
        if not 0 <= low < high <= 1:
            raise InputError(f"--data.position_range is {[low, high]}; give two increasing fractions from 0 to 1.")

    def _check(self, option: str, most: int) -> None:
        number = getattr(self, option)
        if number != "auto":
            check_number(f"--data.{option}", number, at_least=1, at_most=most)

    @property
    def drawn_range(self) -> tuple[float, float]:
        """The part of the sequence that positions are drawn from, as fractions."""
        assert self.position_range != "auto", "settings.resolve puts the schedule's in its place"
        low, high = self.position_range
        return low, high


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """How training reads text.

    Args:
        lanes: Streams that the dataset is dealt out to. Order of training depends on it, and not on the number of
            processes, which only share the lanes; so keep it, and let processes × workers divide it.
        num_workers: Processes that read and tokenise ahead of each training process; 0 reads in the training process
            itself.

    Raises:
        InputError: A number is out of its bounds.
    """

    lanes: int = 8
    num_workers: int = 1

    def __post_init__(self) -> None:
        check_number("--data.lanes", self.lanes, at_least=1, at_most=MAX_LANES)
        check_number("--data.num_workers", self.num_workers, at_least=0, at_most=MAX_LANES)


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """How much text a fit reads, and how it is cut into steps.

    Args:
        tokens: Tokens to train on; the number of optimiser steps follows from it, rounded up. `auto`: the schedule's.
        effective_batch_seqs: Sequences per optimiser step, over all processes and accumulated micro-batches. `auto`:
            the schedule's, 32 or where the budget is small, fewer.
        validate_every_steps: Optimiser steps between two validations; there is one after the last step, too.

    Raises:
        InputError: A number is out of its bounds.
    """

    tokens: int | Literal["auto"] = "auto"
    effective_batch_seqs: int | Literal["auto"] = "auto"
    validate_every_steps: int = 100

    def __post_init__(self) -> None:
        for option, most in (
            ("tokens", MAX_TOKENS),
            ("effective_batch_seqs", MAX_SEQS),
            ("validate_every_steps", MAX_TOKENS),
        ):
            number = getattr(self, option)
            if number != "auto":
                check_number(f"--data.{option}", number, at_least=1, at_most=most)


@dataclass(frozen=True, kw_only=True)
class TrainingTextSettings(BudgetSettings, StreamSettings, TextSettings):
    """The text, how it is read and how much of it: the `data` options of a fit."""

    def __post_init__(self) -> None:
        for part in (TextSettings, StreamSettings, BudgetSettings):
            part.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class PrismTextSettings(StreamSettings, TextSettings):
    """The text and how it is read: the `data` options of a prism, whose positions decide on how much of it."""

    def __post_init__(self) -> None:
        for part in (TextSettings, StreamSettings):
            part.__post_init__(self)

    def as_training(self, tokens: int, batch_seqs: int, validate_every_steps: int) -> TrainingTextSettings:
        """The same text with a budget."""
        own: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
        return TrainingTextSettings(
            **own, tokens=tokens, effective_batch_seqs=batch_seqs, validate_every_steps=validate_every_steps
        )


@dataclass(frozen=True, kw_only=True)
class TestTextSettings(TextSettings):
    """Held-out text and the suite of facts: the `data` options of a test.

    Args:
        test_seqs: Packed sequences of other held-out text in a test; 208 × 512 tokens are more than 100,000.
        suite: File of facts that `test` asks for, in YAML; `facts` is the one that comes with the package.
    """

    __test__ = False  # no test of pytest's

    test_seqs: int = 208
    suite: str = "facts"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("test_seqs", MAX_SEQS)


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """Prompts to read: the `data` options of a prediction.

    Args:
        prompts: File of prompts, in YAML; `probe` and `facts` come with the package.
        prompt: A single prompt to read instead.
        answer: What the model ought to say after that prompt.
    """

    prompts: str = "probe"
    prompt: str | None = None
    answer: str | None = None
