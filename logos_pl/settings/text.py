"""Options of text and prompts."""

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from logos_pl.bounds import check_number
from logos_pl.errors import InputError

MAX_TOKENS = 10**15
MAX_SEQ_LEN = 2**24
MAX_SEQS = 10**7
MAX_LANES = 2**16
MAX_PASSES = 1000
MAX_PARTS = 100

DocumentForm = Literal["text", "chat"]
"""Format of the rows of a dataset."""

SpecialTokens = Literal["auto", "none"]
"""Whether a text gets the special tokens that its tokenizer adds."""

COLUMNS: dict[DocumentForm, str] = {"text": "text", "chat": "messages"}
"""Default column, by format of the rows."""


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Text and held-out split.

    Args:
        dataset: Hub id of a dataset, a local folder with the same layout, a .parquet, .jsonl or .txt file, or `demo`
            for the bundled text. In a .txt file, documents are separated by blank lines.
        name: configuration of the dataset; default: that of the dataset (CC-MAIN-2025-26 for fineweb-edu).
        split: split to read; held-out documents are chosen from it by a hash of their text.
        revision: branch, tag or commit of the dataset on the Hub; default: main (v1.4.0 for fineweb-edu).
        format: format of the rows: `text`; or `chat`: conversations of messages with a role and a content, rendered by
            the model's chat template.
        text_column: name of the column; default: `text`, or `messages` for conversations.
        special_tokens: `auto`: add the tokenizer's special tokens, such as BOS, to each text, once; `none`: add none.
            Conversations get those that their template writes.
        seq_len: length of a packed sequence, in tokens.
        micro_batch_seqs: sequences per forward pass; `auto`: chosen by device memory.
        positions_per_seq: positions sampled per sequence; `auto`: as the schedule says, or fewer in small fits on a
            CPU with a large vocabulary.
        position_range: part of the sequence that positions are sampled from, as two fractions, the second exclusive;
            `auto`: as the schedule says.
        held_out_frac: fraction of documents held out for validation; the same fraction is held out for test.
        val_seqs: packed sequences of held-out text per validation; `auto`: 64, or fewer, down to 8, in a fit on
            little text, so that all its validations together read at most a tenth as much text as it trains on.

    Raises:
        InputError: A number is out of its bounds.
    """

    dataset: str = "HuggingFaceFW/fineweb-edu"
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    format: DocumentForm = "text"
    text_column: str | None = None
    special_tokens: SpecialTokens = "auto"
    seq_len: int = 512
    micro_batch_seqs: int | Literal["auto"] = "auto"
    positions_per_seq: int | Literal["auto"] = "auto"
    position_range: tuple[float, float] | Literal["auto"] = "auto"
    held_out_frac: float = 0.02
    val_seqs: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        self._check("seq_len", MAX_SEQ_LEN)
        self._check("micro_batch_seqs", MAX_SEQS)
        self._check("positions_per_seq", MAX_SEQ_LEN)
        self._check("val_seqs", MAX_SEQS)
        # Validation and test take this fraction each.
        check_number("--data.held_out_frac", self.held_out_frac, above=0, below=0.5)
        low, high = (0, 1) if self.position_range == "auto" else self.position_range
        if not 0 <= low < high <= 1:
            raise InputError(f"--data.position_range is {[low, high]}; give two increasing fractions from 0 to 1.")

    def _check(self, option: str, most: int) -> None:
        number = getattr(self, option)
        if number != "auto":
            check_number(f"--data.{option}", number, at_least=1, at_most=most)

    @property
    def column(self) -> str:
        """Name of the column that is read."""
        return COLUMNS[self.format] if self.text_column is None else self.text_column

    @property
    def drawn_range(self) -> tuple[float, float]:
        """Part of the sequence that positions are sampled from, as fractions."""
        assert self.position_range != "auto", "settings.resolve replaces it"
        low, high = self.position_range
        return low, high


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """Text streams.

    Args:
        part: part of the documents to train on, as `1/2` and `2/2` for two fits on disjoint text; chosen by a hash of
            their text, independently of what is held out. `1/1`: all documents.
        lanes: number of streams that the dataset is divided into. The order of training depends on it, but not on the
            number of processes. Must be divisible by processes × workers.
        num_workers: worker processes that tokenise text for each training process; 0: tokenise in the training process.

    Raises:
        InputError: A number is out of its bounds.
    """

    part: str = "1/1"
    lanes: int = 8
    num_workers: int = 1

    def __post_init__(self) -> None:
        self.text_part  # noqa: B018 (checks it)
        check_number("--data.lanes", self.lanes, at_least=1, at_most=MAX_LANES)
        check_number("--data.num_workers", self.num_workers, at_least=0, at_most=MAX_LANES)

    @property
    def text_part(self) -> tuple[int, int]:
        """Number of the part, from 1, and number of parts.

        Raises:
            InputError: It is not of the form `1/2`.
        """
        found = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", self.part)
        number, parts = (0, 0) if found is None else (int(found[1]), int(found[2]))
        if not 1 <= number <= parts <= MAX_PARTS:
            raise InputError(
                f"--data.part must be NUMBER/PARTS with at most {MAX_PARTS} parts, such as 1/2 (got {self.part[:20]})."
            )
        return number, parts


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """Training budget.

    Args:
        tokens: number of tokens of text to train on, rounded up to whole optimiser steps; `auto`: as the schedule says.
        passes: how many times to train on this text, each time at newly sampled positions; with more than one, the
            tokens are rounded up to a multiple of the lanes as well.
        effective_batch_seqs: sequences per optimiser step, over all processes and accumulated micro-batches; `auto`:
            32, or fewer for small budgets.
        validate_every_steps: optimiser steps between validations. The last step is always validated.

    Raises:
        InputError: A number is out of its bounds.
    """

    tokens: int | Literal["auto"] = "auto"
    passes: int = 1
    effective_batch_seqs: int | Literal["auto"] = "auto"
    validate_every_steps: int = 100

    def __post_init__(self) -> None:
        for option, most in (
            ("tokens", MAX_TOKENS),
            ("passes", MAX_PASSES),
            ("effective_batch_seqs", MAX_SEQS),
            ("validate_every_steps", MAX_TOKENS),
        ):
            number = getattr(self, option)
            if number != "auto":
                check_number(f"--data.{option}", number, at_least=1, at_most=most)


@dataclass(frozen=True, kw_only=True)
class TrainingTextSettings(BudgetSettings, StreamSettings, TextSettings):
    """Text, streams and training budget."""

    def __post_init__(self) -> None:
        for part in (TextSettings, StreamSettings, BudgetSettings):
            part.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class SampleTextSettings(StreamSettings, TextSettings):
    """Text and streams; an option of the lens sets how much is read."""

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
class JacobianTextSettings(SampleTextSettings):
    """The same, in sequences as long as those that Jacobian lenses are usually fitted on.

    A Jacobian sums the effects on all later positions, so its size depends on their number.
    """

    seq_len: int = 128


@dataclass(frozen=True, kw_only=True)
class TestTextSettings(TextSettings):
    """Held-out text and suite of facts.

    Args:
        test_seqs: packed sequences of test text, disjoint from the validation text.
        suite: YAML file of prompts with known answers, or `facts` for the bundled suite.
    """

    __test__ = False  # not a pytest class

    test_seqs: int = 208  # × 512 tokens: more than 100,000
    suite: str = "facts"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("test_seqs", MAX_SEQS)


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """Prompts.

    Args:
        prompts: YAML file of prompts, or `probe` or `facts` for the bundled ones.
        prompt: a single prompt, instead of a file.
        token_ids: a single prompt as token ids, such as `[1, 2, 3]`, read as they are.
        answer: expected answer to the single prompt.
        special_tokens: `auto`: add the tokenizer's special tokens, such as BOS, to a text, once; `none`: add none.
            Conversations get those that the chat template writes; token ids are not changed.

    Raises:
        InputError: A prompt is given as text and as token ids, or a token id is negative.
    """

    prompts: str = "probe"
    prompt: str | None = None
    token_ids: list[int] | None = None
    answer: str | None = None
    special_tokens: SpecialTokens = "auto"

    def __post_init__(self) -> None:
        if self.token_ids is None:
            return
        if self.prompt is not None:
            raise InputError("--data.prompt and --data.token_ids cannot be combined: give one of them.")
        if not self.token_ids or min(self.token_ids) < 0:
            raise InputError("--data.token_ids must be one or more non-negative token ids, such as [1, 2, 3].")
