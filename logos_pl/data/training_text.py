"""LightningDataModule of the training text, with a cursor that resumes exactly."""

import os
from collections.abc import Iterable, Iterator
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
from logos_pl.data.packed_text import PositionDraw, TextBatch, TrainLoader, TrainStream, in_order
from logos_pl.data.reading_ahead import ReadAhead, as_it_is
from logos_pl.errors import InputError, state_of_a_checkpoint
from logos_pl.functional import budget
from logos_pl.settings.text import TrainingTextSettings

PREFETCH_BATCHES = 8


class TrainingText(LightningDataModule):
    """Streams text, tokenises it with the model's tokenizer and packs it into sequences.

    Args:
        settings: Options with every `auto` resolved.
        model_id: Model whose tokenizer is used.
        revision: Revision of that model.
        seed: Seed of the sampled positions.
        gguf: GGUF file of that model.
    """

    def __init__(
        self,
        settings: TrainingTextSettings,
        model_id: str,
        revision: str | None = None,
        seed: int = 316,
        gguf: str | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.model_id, self.revision, self.gguf = settings, model_id, revision, gguf
        self.seed = seed
        self.read_ahead: ReadAhead = as_it_is
        self.model: ModelTokenizer | None = None
        self._text: HeldOutText | None = None
        self._loader: TrainLoader | None = None
        self._intervals: ValidationIntervals | None = None
        self._begin()

    # Set-up

    @together
    def setup(self, stage: str | None = None) -> None:
        """Find the dataset and pack its held-out documents, once; a new fit starts at the first document.

        Raises:
            InputError: The text or the settings cannot be used.
        """
        if self.model is None:
            self.model = ModelTokenizer.load(self.model_id, self.revision, self.settings.special_tokens, self.gguf)
        if self._text is None:
            self._text = HeldOutText.find(self.settings, self.model, {"val": int(self.settings.val_seqs)})
        if stage == "fit" and self.trainer is not None and self.trainer.global_step == 0:
            self._begin()

    def _begin(self) -> None:
        """Reset every lane to its start."""
        self._cursors = {lane: LaneCursor() for lane in range(self.settings.lanes)}
        self._of_step: Cursors = {}
        self._restored_identity: dict[str, Any] | None = None

    @property
    def text(self) -> HeldOutText:
        """The dataset; set by `setup`."""
        assert self._text is not None, "setup() has not run yet"
        return self._text

    @property
    def total_steps(self) -> int:
        """Number of optimiser steps, over all passes."""
        return self.settings.passes * self._steps_of_pass

    @property
    def _steps_of_pass(self) -> int:
        """Number of optimiser steps in one pass over the text."""
        settings = self.settings
        return budget.steps_of_pass(
            int(settings.tokens),
            settings.seq_len,
            int(settings.effective_batch_seqs),
            settings.passes,
            settings.lanes,
        )

    # Loaders

    @together
    def train_dataloader(self) -> Iterable[TextBatch]:
        """Return micro-batches from the current step, prefetched by workers; an epoch ends at a validation.

        Raises:
            InputError: Lanes or steps cannot be divided evenly, or the checkpoint comes from another dataset.
        """
        check_layout(self._layout())
        self._check_identity()
        # One document at a time; threads do not survive a fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        workers = self.settings.num_workers
        self._loader = TrainLoader(self._stream, workers, PREFETCH_BATCHES, pin_memory=self._on_cuda())
        self._intervals = ValidationIntervals(self._loader, self.batches_to_validation)
        return self.read_ahead("train", self._intervals)

    @together
    def val_dataloader(self) -> Iterable[TextBatch]:
        """Return this process's share of the validation sequences.

        Raises:
            InputError: They cannot be divided evenly, or the checkpoint's run held out another fraction.
        """
        if self._restored_identity is not None:
            refuse_other_share(self.settings.held_out_frac, self._restored_identity["held_out_frac"])
        return self.read_ahead("val", self.text.batches("val", self.trainer))

    def opening(self, num_sequences: int) -> Iterator[tuple[TextBatch, list[int]]]:
        """Yield this process's share of the run's first sequences in order, each batch with their indices.

        The cursor does not move, so the same text is trained on afterwards.

        Args:
            num_sequences: A multiple of the sequences in an optimiser step.

        Raises:
            InputError: Lanes or steps cannot be divided evenly.
            RunError: The text ends or cannot be read.
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
        """Stop the workers, which would keep the process alive; Lightning skips teardown after an error."""
        self.teardown()

    def batches_to_validation(self) -> int:
        """Micro-batches of this process from the current step to the next validation or the end."""
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
        length = None
        if settings.passes > 1:
            length = self._steps_of_pass * int(settings.effective_batch_seqs) // settings.lanes
        text = TrainText(
            self.model.of_documents(settings.format),
            settings.column,
            settings.held_out_frac,
            settings.seq_len,
            length,
            settings.text_part,
        )
        draw = PositionDraw(self.seed, int(settings.positions_per_seq), settings.drawn_range)
        return TrainStream(self.text.source.shards, text, draw, layout, cursors)

    def _layout(self) -> Layout:
        settings = self.settings
        batch = int(settings.micro_batch_seqs), int(settings.effective_batch_seqs)
        return Layout(settings.lanes, *rank_and_world_size(self.trainer), max(1, settings.num_workers), *batch)

    def _on_cuda(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    # The cursor

    def advance(self, cursors: Cursors, step_is_complete: bool = True) -> None:
        """Record that a batch was trained on; a resumed run continues after the last complete optimiser step.

        Args:
            cursors: Those after the batch.
            step_is_complete: Whether the batch ends a step.
        """
        self._of_step.update(cursors)
        if step_is_complete:
            self._cursors.update(self._of_step)
            self._of_step = {}
        if self._intervals is not None:
            self._intervals.trained()

    def state_dict(self) -> dict[str, Any]:
        """Cursors of all lanes and the identity of the text, as plain values; every process must call this."""
        cursors = {lane: tuple(cursor) for lane, cursor in self._gathered().items()}
        return {"cursors": cursors, "identity": self.identity()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the cursors; the next `train_dataloader` continues there."""
        with state_of_a_checkpoint("place in the text"):
            self._cursors = {int(lane): LaneCursor(*cursor) for lane, cursor in state_dict["cursors"].items()}
            self._of_step = {}
            self._restored_identity = state_dict["identity"]

    def ledger(self) -> ConsumedText:
        """Counts of the text trained on, over all processes; every process must call this."""
        assert self.model is not None, "setup() has not run yet"
        added = self.model.added_tokens(self.settings.format)
        return count_consumed(self.text.source, self._gathered(), self.settings, added)

    def _gathered(self) -> Cursors:
        layout = self._layout()
        return gather_cursors({lane: self._cursors[lane] for lane in layout.owned()})

    def identity(self) -> dict[str, Any]:
        """Settings that determine the training batches: shards, lanes, packing, split, positions, budget."""
        settings = self.settings
        # An error names the first difference, so given values come before those derived from `auto`.
        return {
            **self.text.identity(),
            "part": settings.part,
            "lanes": settings.lanes,
            "tokens": int(settings.tokens),
            "passes": settings.passes,
            "effective_batch_seqs": int(settings.effective_batch_seqs),
            **self.text.reading(),
            "seed": self.seed,
            "validate_every_steps": settings.validate_every_steps,
            "val_seqs": int(settings.val_seqs),
        }

    def same_in_all(self) -> dict[str, Any]:
        """Values that must agree in all processes, by name."""
        return {"the text consumed": content_hash(self._cursors), **self.identity()}

    def _check_identity(self) -> None:
        """Check that the cursors come from a checkpoint of the same data."""
        if self._restored_identity is None:
            return
        for field, now in self.identity().items():
            before = self._restored_identity.get(field)
            if before != now:
                raise InputError(
                    f"The checkpoint was written with data {field} {before}, but this run has {now}; "
                    "resume with the settings of the checkpoint."
                )
