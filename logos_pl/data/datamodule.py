"""The one LightningDataModule: packed text to fit, validate and test on, with a cursor that comes back exactly."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from transformers import PreTrainedTokenizerBase

from logos_pl.agreement import together
from logos_pl.bounds import check_number
from logos_pl.data.held_out import Side, held_out_sequences
from logos_pl.data.intervals import ValidationIntervals
from logos_pl.data.lanes import LaneCursor, TrainText, content_hash
from logos_pl.data.layout import Cursors, Layout, check_layout
from logos_pl.data.ledger import DataLedger, count_consumed, gather_cursors
from logos_pl.data.packed_text import HeldOutBatches, PositionDraw, TextBatch, TrainLoader, TrainStream, in_order
from logos_pl.data.prompt_types import Prompt
from logos_pl.data.prompts import PromptBatches, TokenizedPrompt, ask, remarks
from logos_pl.data.source import Source, resolve
from logos_pl.data.suites import FACTS, PROBE, prompts_of, read_suite
from logos_pl.data.tokenizing import Tokenizer
from logos_pl.errors import InputError, state_of_a_checkpoint
from logos_pl.functional import budget
from logos_pl.functional.positions import position_bounds
from logos_pl.functional.schedules import SCHEDULES, ScheduleName, scheduled_batch, scheduled_positions
from logos_pl.io.parsing import MAX_YAML_BYTES, read_bytes
from logos_pl.lm.config import context_length, read_config, vocabulary_size
from logos_pl.lm.sources import locate
from logos_pl.lm.tokenizer import load_tokenizer

DEFAULT_MICRO_BATCH_SEQS = 8
MAX_TOKENS = 10**15
MAX_SEQ_LEN = 2**24
MAX_SEQS = 10**7
MAX_LANES = 2**16
PREFETCH_BATCHES = 8
# Held-out positions hang on the side alone, never on the run's seed, so that runs of different seeds are measured on
# the same ones.
HELD_OUT_SEEDS: dict[Side, int] = {"val": -1, "test": -2}
MOST_HELD_OUT_POSITIONS = 32
"""Of a held-out sequence: more of the same text say little more, however many are trained on."""


def _check_range(position_range: tuple[float, float] | Literal["auto"]) -> None:
    low, high = (0, 1) if position_range == "auto" else position_range
    if not 0 <= low < high <= 1:
        raise InputError(f"--data.position_range is {[low, high]}; give two increasing fractions from 0 to 1.")


class LensDataModule(LightningDataModule):
    """Streams text, tokenises it with the model's own tokenizer and packs it into sequences.

    Args:
        dataset: Hub id, local folder laid out the same way, or a single .parquet, .jsonl or .txt file; `demo` is the
            text that comes with the package. In a .txt file each paragraph (between blank lines) is a document.
        name: Configuration of the dataset. Left out: the dataset's default (for fineweb-edu CC-MAIN-2025-26).
        split: Split to read; held-out text is set aside from it by a hash of each document.
        revision: Branch, tag or commit of a Hub dataset. Left out: main (for fineweb-edu v1.4.0).
        text_column: Column that holds the text.
        tokens: Tokens to train on; the number of optimiser steps follows from it, rounded up. `auto`: the schedule's.
        seq_len: Tokens per packed sequence.
        effective_batch_seqs: Sequences per optimiser step, over all processes and accumulated micro-batches. `auto`:
            the schedule's, 32 or where the budget is small, fewer.
        micro_batch_seqs: Sequences per forward pass; `auto` chooses by the device.
        positions_per_seq: Positions per sequence that are learned from. `auto`: the schedule's.
        position_range: Part of the sequence that positions are drawn from, as two fractions: from the first up to, not
            including, the second. `auto`: the schedule's.
        held_out_frac: Share of the documents held out for validation, and again as many for test.
        validate_every_steps: Optimiser steps between two validations; there is one after the last step, too.
        val_seqs: Packed sequences of held-out text in a validation.
        test_seqs: Packed sequences of other held-out text in a test; 208 × 512 tokens are more than 100,000.
        lanes: Streams that the dataset is dealt out to. Order of training depends on it, and not on the number of
            processes, which only share the lanes; so keep it, and let processes × workers divide it.
        num_workers: Processes that read and tokenise ahead of each training process; 0 reads in the training process
            itself.
        prompts: File of prompts that `predict` reads, in YAML; `probe` and `facts` come with the package.
        suite: File of facts that `test` asks for, in YAML; `facts` is the one that comes with the package.
        prompt: A single prompt to read instead.
        answer: What the model ought to say after that prompt.
        schedule: What `auto` stands for; follows --schedule.
        model_id: Model whose tokenizer is used; follows --model.
        model_revision: Revision of that model; follows --model.
        seed: Seed of the drawn positions; follows --seed_everything.

    Raises:
        InputError: A number is out of its bounds.
    """

    tokenizer: PreTrainedTokenizerBase | None = None
    allow_zero_length_dataloader_with_multiple_devices = True  # a short suite may leave a process without a fact

    def __init__(
        self,
        dataset: str = "HuggingFaceFW/fineweb-edu",
        name: str | None = None,
        split: str = "train",
        revision: str | None = None,
        text_column: str = "text",
        tokens: int | Literal["auto"] = "auto",
        seq_len: int = 512,
        effective_batch_seqs: int | Literal["auto"] = "auto",
        micro_batch_seqs: int | Literal["auto"] = "auto",
        positions_per_seq: int | Literal["auto"] = "auto",
        position_range: tuple[float, float] | Literal["auto"] = "auto",
        held_out_frac: float = 0.02,
        validate_every_steps: int = 100,
        val_seqs: int = 64,
        test_seqs: int = 208,
        lanes: int = 8,
        num_workers: int = 1,
        prompts: str = "probe",
        suite: str = "facts",
        prompt: str | None = None,
        answer: str | None = None,
        schedule: ScheduleName = "full",
        model_id: str = "demo",
        model_revision: str | None = None,
        seed: int = 316,
    ) -> None:
        super().__init__()
        for option, number, most in (
            ("tokens", tokens, MAX_TOKENS),
            ("seq_len", seq_len, MAX_SEQ_LEN),
            ("effective_batch_seqs", effective_batch_seqs, MAX_SEQS),
            ("micro_batch_seqs", micro_batch_seqs, MAX_SEQS),
            ("positions_per_seq", positions_per_seq, MAX_SEQ_LEN),
            ("validate_every_steps", validate_every_steps, MAX_TOKENS),
            ("val_seqs", val_seqs, MAX_SEQS),
            ("test_seqs", test_seqs, MAX_SEQS),
            ("lanes", lanes, MAX_LANES),
        ):
            if number != "auto":
                check_number(f"--data.{option}", number, at_least=1, at_most=most)
        check_number("--data.num_workers", num_workers, at_least=0, at_most=MAX_LANES)
        # Validation and test take that much each.
        check_number("--data.held_out_frac", held_out_frac, above=0, below=0.5)
        _check_range(position_range)
        self.dataset = dataset
        self.name = name
        self.split = split
        self.revision = revision
        self.text_column = text_column
        self.tokens = tokens
        self.seq_len = seq_len
        self.effective_batch_seqs = effective_batch_seqs
        self.micro_batch_seqs = micro_batch_seqs
        self.positions_per_seq = positions_per_seq
        self.position_range = position_range
        self.held_out_frac = held_out_frac
        self.validate_every_steps = validate_every_steps
        self.val_seqs = val_seqs
        self.test_seqs = test_seqs
        self.lanes = lanes
        self.num_workers = num_workers
        self.prompts = prompts
        self.suite = suite
        self.prompt = prompt
        self.answer = answer
        self.schedule = schedule
        self.model_id = model_id
        self.model_revision = model_revision
        self.seed = seed
        self.source: Source | None = None
        self._loader: TrainLoader | None = None
        self._intervals: ValidationIntervals | None = None
        self._held_out: dict[Side, list[list[int]]] = {}
        self._longest: int | None = None
        self._num_ids: int | None = None
        self.asked: list[TokenizedPrompt] = []
        self._begin()

    # Set-up

    @together
    def setup(self, stage: str | None = None) -> None:
        """Makes ready for a stage, whichever came before: tokenizer, the stage's prompts, text for all but `predict`.

        Raises:
            InputError: If the data or the settings cannot be used.
        """
        if self._num_ids is None:  # once: every interval makes a stream, and the Hub may be gone by then
            config = read_config(locate(self.model_id, self.model_revision))
            self._longest, self._num_ids = context_length(config), vocabulary_size(config)
        if self.tokenizer is None:
            self.tokenizer = load_tokenizer(self.model_id, self.model_revision)
        if stage in ("predict", "test"):
            self.asked = self._ask(self._prompts() if stage == "predict" else self._facts())
        if stage != "predict" and self.source is None:
            self._find_text()
        if stage == "fit" and self.trainer is not None and self.trainer.global_step == 0:
            self._begin()

    def _begin(self) -> None:
        """Puts every lane at its start: what an earlier fit has read, or the checkpoint of an evaluation, is over."""
        self._cursors = {lane: LaneCursor() for lane in range(self.lanes)}
        self._restored_identity = None

    def _find_text(self) -> None:
        """Finds the shards, resolves `auto` and packs the held-out text."""
        assert self.tokenizer is not None
        self.settle(len(self.tokenizer))
        if self.micro_batch_seqs == "auto":
            self.micro_batch_seqs = min(DEFAULT_MICRO_BATCH_SEQS, int(self.effective_batch_seqs))
        self._check_positions()
        source = resolve(self.dataset, self.name, self.split, self.revision)
        wanted: dict[Side, int] = {"val": self.val_seqs, "test": self.test_seqs}
        self._held_out = held_out_sequences(
            wanted, source.shards, self.text_column, self.held_out_frac, self.seq_len, self._encoder()
        )
        self.source = source

    def settle(self, vocab_size: int) -> None:
        """Puts the schedule's numbers in place of every `auto`."""
        self.tokens = SCHEDULES[self.schedule].tokens if self.tokens == "auto" else self.tokens
        if self.effective_batch_seqs == "auto":
            self.effective_batch_seqs = scheduled_batch(self.schedule, self.tokens, self.seq_len)
        positions, position_range = scheduled_positions(
            self.schedule, vocab_size, self.seq_len, self.effective_batch_seqs
        )
        self.positions_per_seq = positions if self.positions_per_seq == "auto" else self.positions_per_seq
        self.position_range = position_range if self.position_range == "auto" else self.position_range

    def _check_positions(self) -> None:
        first, last = position_bounds(self.seq_len, self.drawn_range)
        if not 1 <= self._draw(self.seed).num_positions <= last - first + 1:
            raise InputError(
                f"--data.positions_per_seq is {self.positions_per_seq}, but {self.drawn_range} of {self.seq_len} "
                f"tokens holds {last - first + 1}; change it, --data.position_range or --data.seq_len."
            )

    @property
    def total_steps(self) -> int:
        """Optimiser steps that the token budget buys."""
        return budget.total_steps(int(self.tokens), self.seq_len, int(self.effective_batch_seqs))

    @property
    def drawn_range(self) -> tuple[float, float]:
        """The part of the sequence that positions are drawn from, as fractions."""
        assert self.position_range != "auto", "setup() settles it"
        low, high = self.position_range
        return low, high

    # Loaders

    @together
    def train_dataloader(self) -> ValidationIntervals:
        """Micro-batches from where training stands, tokenised ahead by the workers; each pass ends at a validation.

        Raises:
            InputError: If lanes or steps cannot be shared evenly, or a checkpoint is of another dataset.
        """
        check_layout(self._layout())
        self._check_identity()
        # One document at a time; threads do not survive a fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._loader = TrainLoader(self._stream, self.num_workers, PREFETCH_BATCHES, pin_memory=self._on_cuda())
        self._intervals = ValidationIntervals(self._loader, self.batches_to_validation)
        return self._intervals

    def opening(self, num_sequences: int) -> Iterator[tuple[TextBatch, list[int]]]:
        """This process's share of the run's first sequences, in the order of training, each batch with their numbers.

        Training's cursor stays where it is: the same text is trained on afterwards.

        Args:
            num_sequences: A multiple of the sequences in an optimiser step.

        Raises:
            InputError: If lanes or steps cannot be shared evenly.
            RunError: If the text runs out or cannot be read.
        """
        layout = self._layout()._replace(workers=1)
        check_layout(layout)
        stream = self._stream_from(layout, {lane: LaneCursor() for lane in layout.owned()})
        per_batch, world_size = layout.micro_batch_seqs, layout.world_size
        batches = in_order(stream.chunks(0), 1, per_batch)
        for index, batch in enumerate(islice(batches, num_sequences // (per_batch * world_size))):
            first = index * per_batch
            yield batch, [layout.rank + world_size * turn for turn in range(first, first + per_batch)]

    def teardown(self, stage: str | None = None) -> None:
        """Stops the workers."""
        if self._loader is not None:
            self._loader.close()

    def on_exception(self, exception: BaseException) -> None:
        """Stops the workers: Lightning tears nothing down after a failure, and they would keep the process alive."""
        self.teardown()

    def batches_to_validation(self) -> int:
        """Micro-batches of this process from where training stands to the next validation or the end."""
        layout = self._layout()
        done = sum(self._cursors[lane].sequences for lane in layout.owned()) // layout.micro_batch_seqs
        per_step = layout.effective_batch_seqs // (layout.world_size * layout.micro_batch_seqs)
        next_validation = (done // per_step // self.validate_every_steps + 1) * self.validate_every_steps
        return max(0, min(next_validation, self.total_steps) * per_step - done)

    @together
    def val_dataloader(self) -> Iterable[TextBatch]:
        """This process's share of the held-out validation sequences.

        Raises:
            InputError: If the processes cannot share them evenly.
        """
        return self._held_out_batches("val")

    @together
    def test_dataloader(self) -> tuple[HeldOutBatches, PromptBatches]:
        """This process's share of the held-out test sequences, and of the suite.

        Raises:
            InputError: If the processes cannot share them evenly.
        """
        layout = self._layout()
        suite = PromptBatches(self.asked, rank=layout.rank, world_size=layout.world_size)
        return self._held_out_batches("test"), suite

    def all_validation_batches(self) -> Iterable[TextBatch]:
        """All held-out validation sequences, the same in every process: what temperatures are fitted on."""
        draw = self._held_out_draw("val")
        return HeldOutBatches(self._held_out["val"], draw, int(self.micro_batch_seqs), 0, 1)

    def evaluated_on(self) -> dict[str, Any]:
        """What a verdict is passed on, for its record."""
        source, _ = self._ready()
        suite = FACTS if self.suite == "facts" else Path(self.suite)
        return {
            "suite": suite.name,
            "suite_sha256": hashlib.sha256(read_bytes(suite, MAX_YAML_BYTES)).hexdigest(),
            "facts": len(self.asked),
            "dataset": source.repo_id,
            "name": source.name,
            "split": source.split,
            "revision": source.commit or source.revision,
            "held_out_frac": self.held_out_frac,
            "sequences": len(self._held_out["test"]),
            "seq_len": self.seq_len,
            "positions_per_seq": self._held_out_draw("test").num_positions,
            "position_range": list(self.drawn_range),
        }

    def test_bytes_per_token(self) -> float:
        """Bytes of UTF-8 text that a token of the held-out test sequences stands for, special tokens aside."""
        _, tokenizer = self._ready()
        special = set(tokenizer.all_special_ids)
        texts = tokenizer.batch_decode(
            self._held_out["test"], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        tokens = sum(token not in special for sequence in self._held_out["test"] for token in sequence)
        return sum(len(text.encode()) for text in texts) / tokens

    def predict_dataloader(self) -> PromptBatches:
        """The prompts, several at a time, in their order."""
        return PromptBatches(self.asked)

    @property
    def num_prompts(self) -> int:
        """Prompts that a prediction reads, variants and controls included."""
        return len(self.asked)

    def _ask(self, prompts: list[Prompt]) -> list[TokenizedPrompt]:
        """The prompts as the model's tokenizer has them.

        Raises:
            InputError: A prompt or its answer is empty, or a prompt is too long.
        """
        assert self.tokenizer is not None, "setup() loads it"
        asked = [ask(self.tokenizer, prompt, self._longest, self._num_ids) for prompt in prompts]
        if self.trainer is None or self.trainer.global_rank == 0:
            for remark in remarks(asked):
                warnings.warn(f"{self.model_id}: {remark}", stacklevel=2)
        return asked

    def _encoder(self) -> Tokenizer:
        assert self.tokenizer is not None, "setup() loads it"
        return Tokenizer(self.tokenizer, self._num_ids)

    def _facts(self) -> list[Prompt]:
        """The suite's facts, without the variants and controls that only a prediction reads.

        Raises:
            InputError: The file is not as it should be, or a fact has no answer.
        """
        facts = read_suite(FACTS if self.suite == "facts" else self.suite)
        mute = next((fact for fact in facts if fact.answer is None), None)
        if mute is not None:
            raise InputError(f"--data.suite: the fact {mute.fact_id} (line {mute.line}) has no answer: give it one.")
        own = {fact.fact_id for fact in facts}
        return [prompt for prompt in prompts_of(facts) if prompt.prompt_id in own and prompt.variant == "orig"]

    def _prompts(self) -> list[Prompt]:
        """What a prediction reads.

        Raises:
            InputError: An answer without its prompt, or the file is not as it should be.
        """
        if self.prompt is None and self.answer is not None:
            raise InputError("--data.answer goes with --data.prompt: give the prompt, or a file with --data.prompts.")
        if self.prompt is not None:
            return [Prompt("prompt", "orig", self.prompt, self.answer)]
        packaged = {"probe": PROBE, "facts": FACTS}
        return prompts_of(read_suite(packaged.get(self.prompts, self.prompts)))

    def _held_out_batches(self, which: Side) -> HeldOutBatches:
        if self._restored_identity is not None:
            self.refuse_other_share(self._restored_identity["held_out_frac"])
        sequences, layout = self._held_out[which], self._layout()
        if len(sequences) % layout.world_size != 0:
            raise InputError(
                f"{len(sequences)} held-out sequences cannot be shared evenly by {layout.world_size} processes; "
                f"make --data.{which}_seqs a multiple of {layout.world_size}."
            )
        draw = self._held_out_draw(which)
        return HeldOutBatches(sequences, draw, layout.micro_batch_seqs, layout.rank, layout.world_size)

    def _stream(self) -> TrainStream:
        layout = self._layout()
        return self._stream_from(layout, {lane: self._cursors[lane] for lane in layout.owned()})

    def _stream_from(self, layout: Layout, cursors: Cursors) -> TrainStream:
        source, _ = self._ready()
        text = TrainText(self._encoder(), self.text_column, self.held_out_frac, self.seq_len)
        return TrainStream(source.shards, text, self._draw(self.seed), layout, cursors)

    def _ready(self) -> tuple[Source, PreTrainedTokenizerBase]:
        if self.source is None or self.tokenizer is None:
            raise RuntimeError("LensDataModule.setup() has not run yet")
        return self.source, self.tokenizer

    def _held_out_draw(self, which: Side) -> PositionDraw:
        draw = self._draw(HELD_OUT_SEEDS[which])
        return draw._replace(num_positions=min(draw.num_positions, MOST_HELD_OUT_POSITIONS))

    def _draw(self, seed: int) -> PositionDraw:
        return PositionDraw(seed, int(self.positions_per_seq), self.drawn_range)

    def _layout(self) -> Layout:
        trainer = self.trainer
        rank, world_size = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        workers = max(1, self.num_workers)
        batch = int(self.micro_batch_seqs), int(self.effective_batch_seqs)
        return Layout(self.lanes, rank, world_size, workers, *batch)

    def _on_cuda(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    # The cursor

    def advance(self, cursors: Cursors) -> None:
        """Records that a batch was trained on: its cursors are where a resumed run goes on."""
        self._cursors.update(cursors)
        if self._intervals is not None:
            self._intervals.trained()

    def state_dict(self) -> dict[str, Any]:
        """All lanes' cursors and what they are cursors of, in plain types; every process must call it."""
        cursors = {lane: tuple(cursor) for lane, cursor in self._gathered().items()}
        return {"cursors": cursors, "identity": self.identity()}

    def place(self) -> str:
        """Digest of where all lanes are, as far as this process knows: of its own for sure, of all at the start."""
        return content_hash(self._cursors)

    def refuse_other_share(self, held_out_frac: float) -> None:
        """Makes sure that the text held out here was held out from the lens's training, too.

        Args:
            held_out_frac: The share that was held out from it.

        Raises:
            InputError: If it is another one: the sides of the documents would be others.
        """
        if self.held_out_frac != held_out_frac:
            raise InputError(
                f"The lens was fitted with {held_out_frac:g} of the documents held out, and with --data.held_out_frac "
                f"{self.held_out_frac:g} it would be judged on text it has seen: give --data.held_out_frac "
                f"{held_out_frac:g}."
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Puts every lane where it was; the next `train_dataloader` goes on from there."""
        with state_of_a_checkpoint("place in the text"):
            self._cursors = {int(lane): LaneCursor(*cursor) for lane, cursor in state_dict["cursors"].items()}
            self._restored_identity = state_dict["identity"]

    def ledger(self) -> DataLedger:
        """What was trained on so far, over all processes; every process must call it."""
        source, _ = self._ready()
        return count_consumed(source, self._gathered(), self.held_out_frac, self.seq_len)

    def _gathered(self) -> Cursors:
        layout = self._layout()
        return gather_cursors({lane: self._cursors[lane] for lane in layout.owned()})

    def identity(self) -> dict[str, Any]:
        """What makes two runs read the same: shards, how they are dealt out, cut and held out, positions, budget."""
        source, _ = self._ready()
        names = "\n".join(shard.name for shard in source.shards)
        return {
            "shards": hashlib.sha256(names.encode()).hexdigest(),
            "dataset": source.repo_id,
            "name": source.name,
            "split": source.split,
            "commit": source.commit,
            "text_column": self.text_column,
            "held_out_frac": self.held_out_frac,
            "seq_len": self.seq_len,
            "lanes": self.lanes,
            "tokens": int(self.tokens),
            "effective_batch_seqs": int(self.effective_batch_seqs),
            "micro_batch_seqs": int(self.micro_batch_seqs),
            "positions_per_seq": int(self.positions_per_seq),
            "position_range": list(self.drawn_range),
            "seed": self.seed,
            "validate_every_steps": self.validate_every_steps,
            "val_seqs": self.val_seqs,
        }

    def _check_identity(self) -> None:
        """Refuses cursors that come from a checkpoint of other data."""
        if self._restored_identity is None:
            return
        for field, now in self.identity().items():
            before = self._restored_identity.get(field)
            if before != now:
                raise InputError(
                    f"The checkpoint was written with data {field} {before} and this run has {now}; "
                    "resume with the settings of the checkpoint."
                )
