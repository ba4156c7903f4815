"""The text that a fit learns from, as Lightning reads it, with a cursor that comes back exactly."""

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

from lightning.pytorch import LightningDataModule

from logos_pl.agreement import together
from logos_pl.data.consumed_text import ConsumedText, count_consumed, gather_cursors
from logos_pl.data.held_out_text import HeldOutText, rank_and_world_size, refuse_other_share
from logos_pl.data.intervals import ValidationIntervals
from logos_pl.data.lanes import LaneCursor, TrainText, content_hash
from logos_pl.data.layout import Cursors, Layout, check_layout
from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.packed_text import HeldOutBatches, PositionDraw, TextBatch, TrainLoader, TrainStream, in_order
from logos_pl.errors import InputError, state_of_a_checkpoint
from logos_pl.functional import budget
from logos_pl.settings.text import TrainingTextSettings

PREFETCH_BATCHES = 8


class TrainingText(LightningDataModule):
    """Streams text, tokenises it with the model's own tokenizer and packs it into sequences.

    Args:
        settings: The options, every `auto` resolved.
        model_id: Model whose tokenizer is used.
        revision: Revision of that model.
        seed: Seed of the drawn positions.
    """

    def __init__(
        self, settings: TrainingTextSettings, model_id: str, revision: str | None = None, seed: int = 316
    ) -> None:
        super().__init__()
        self.settings, self.model_id, self.revision, self.seed = settings, model_id, revision, seed
        self.model: ModelTokenizer | None = None
        self._text: HeldOutText | None = None
        self._loader: TrainLoader | None = None
        self._intervals: ValidationIntervals | None = None
        self._begin()

    # Set-up

    @together
    def setup(self, stage: str | None = None) -> None:
        """Find the text and pack what is held out of it, once; a fit that is new begins at the start.

        Raises:
            InputError: The text or the settings cannot be used.
        """
        if self.model is None:
            self.model = ModelTokenizer.load(self.model_id, self.revision)
        if self._text is None:
            self._text = HeldOutText.find(self.settings, self.model, {"val": self.settings.val_seqs})
        if stage == "fit" and self.trainer is not None and self.trainer.global_step == 0:
            self._begin()

    def _begin(self) -> None:
        """Put every lane at its start: what an earlier fit has read is over."""
        self._cursors = {lane: LaneCursor() for lane in range(self.settings.lanes)}
        self._restored_identity: dict[str, Any] | None = None

    @property
    def text(self) -> HeldOutText:
        """The dataset; there from `setup` on."""
        assert self._text is not None, "setup() has not run yet"
        return self._text

    @property
    def total_steps(self) -> int:
        """Optimiser steps that the token budget buys."""
        settings = self.settings
        return budget.total_steps(int(settings.tokens), settings.seq_len, int(settings.effective_batch_seqs))

    # Loaders

    @together
    def train_dataloader(self) -> ValidationIntervals:
        """Micro-batches from where training stands, tokenised ahead by the workers; each pass ends at a validation.

        Raises:
            InputError: Lanes or steps cannot be shared evenly, or a checkpoint is of another dataset.
        """
        check_layout(self._layout())
        self._check_identity()
        # One document at a time; threads do not survive a fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        workers = self.settings.num_workers
        self._loader = TrainLoader(self._stream, workers, PREFETCH_BATCHES, pin_memory=self._on_cuda())
        self._intervals = ValidationIntervals(self._loader, self.batches_to_validation)
        return self._intervals

    @together
    def val_dataloader(self) -> HeldOutBatches:
        """This process's share of the held-out validation sequences.

        Raises:
            InputError: The processes cannot share them evenly, or another share was held out from the checkpoint's run.
        """
        if self._restored_identity is not None:
            refuse_other_share(self.settings.held_out_frac, self._restored_identity["held_out_frac"])
        return self.text.batches("val", self.trainer)

    def opening(self, num_sequences: int) -> Iterator[tuple[TextBatch, list[int]]]:
        """This process's share of the run's first sequences, in the order of training, each batch with their numbers.

        Training's cursor stays where it is: the same text is trained on afterwards.

        Args:
            num_sequences: A multiple of the sequences in an optimiser step.

        Raises:
            InputError: Lanes or steps cannot be shared evenly.
            RunError: The text runs out or cannot be read.
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
        """Stop the workers."""
        if self._loader is not None:
            self._loader.close()

    def on_exception(self, exception: BaseException) -> None:
        """Stop the workers: Lightning tears nothing down after a failure, and they would keep the process alive."""
        self.teardown()

    def batches_to_validation(self) -> int:
        """Micro-batches of this process from where training stands to the next validation or the end."""
        layout, every = self._layout(), self.settings.validate_every_steps
        done = sum(self._cursors[lane].sequences for lane in layout.owned()) // layout.micro_batch_seqs
        per_step = layout.effective_batch_seqs // (layout.world_size * layout.micro_batch_seqs)
        next_validation = (done // per_step // every + 1) * every
        return max(0, min(next_validation, self.total_steps) * per_step - done)

    def _stream(self) -> TrainStream:
        layout = self._layout()
        return self._stream_from(layout, {lane: self._cursors[lane] for lane in layout.owned()})

    def _stream_from(self, layout: Layout, cursors: Cursors) -> TrainStream:
        assert self.model is not None, "setup() has not run yet"
        settings = self.settings
        text = TrainText(self.model.encoder(), settings.text_column, settings.held_out_frac, settings.seq_len)
        draw = PositionDraw(self.seed, int(settings.positions_per_seq), settings.drawn_range)
        return TrainStream(self.text.source.shards, text, draw, layout, cursors)

    def _layout(self) -> Layout:
        settings = self.settings
        batch = int(settings.micro_batch_seqs), int(settings.effective_batch_seqs)
        return Layout(settings.lanes, *rank_and_world_size(self.trainer), max(1, settings.num_workers), *batch)

    def _on_cuda(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    # The cursor

    def advance(self, cursors: Cursors) -> None:
        """Record that a batch was trained on: its cursors are where a resumed run goes on."""
        self._cursors.update(cursors)
        if self._intervals is not None:
            self._intervals.trained()

    def state_dict(self) -> dict[str, Any]:
        """All lanes' cursors and what they are cursors of, in plain types; every process must call it."""
        cursors = {lane: tuple(cursor) for lane, cursor in self._gathered().items()}
        return {"cursors": cursors, "identity": self.identity()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put every lane where it was; the next `train_dataloader` goes on from there."""
        with state_of_a_checkpoint("place in the text"):
            self._cursors = {int(lane): LaneCursor(*cursor) for lane, cursor in state_dict["cursors"].items()}
            self._restored_identity = state_dict["identity"]

    def ledger(self) -> ConsumedText:
        """What was trained on so far, over all processes; every process must call it."""
        settings = self.settings
        return count_consumed(self.text.source, self._gathered(), settings.held_out_frac, settings.seq_len)

    def _gathered(self) -> Cursors:
        layout = self._layout()
        return gather_cursors({lane: self._cursors[lane] for lane in layout.owned()})

    def identity(self) -> dict[str, Any]:
        """What makes two runs read the same: shards, how they are dealt out, cut and held out, positions, budget."""
        settings = self.settings
        # The first that differs is named, so what is given stands before what `auto` makes of it.
        return {
            **self.text.identity(),
            "lanes": settings.lanes,
            "tokens": int(settings.tokens),
            "effective_batch_seqs": int(settings.effective_batch_seqs),
            **self.text.reading(),
            "seed": self.seed,
            "validate_every_steps": settings.validate_every_steps,
            "val_seqs": settings.val_seqs,
        }

    def same_in_all(self) -> dict[str, Any]:
        """What has to be the same in every process of a run, by name; of the cursors, those of its own for sure."""
        return {"the text consumed": content_hash(self._cursors), **self.identity()}

    def _check_identity(self) -> None:
        """Refuse cursors that come from a checkpoint of other data."""
        if self._restored_identity is None:
            return
        for field, now in self.identity().items():
            before = self._restored_identity.get(field)
            if before != now:
                raise InputError(
                    f"The checkpoint was written with data {field} {before} and this run has {now}; "
                    "resume with the settings of the checkpoint."
                )
