"""A dataset with its held-out sequences for evaluation."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from lightning.pytorch import Trainer

from logos_pl.data.held_out import Side, held_out_sequences
from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.packed_text import HeldOutBatches, PositionDraw
from logos_pl.data.source import TextSource, resolve
from logos_pl.errors import InputError
from logos_pl.settings.text import TextSettings

# Held-out positions depend only on the side, not on the seed, so that runs with different seeds are evaluated at the
# same positions.
HELD_OUT_SEEDS: dict[Side, int] = {"val": -1, "test": -2}
MOST_HELD_OUT_POSITIONS = 32
"""Maximum number of positions evaluated per held-out sequence; more of the same text add little information."""


class HeldOutText(NamedTuple):
    """A dataset and its held-out sequences.

    Attributes:
        settings: Options with every `auto` resolved.
        source: Shards of the dataset.
        sequences: Packed token ids by side.
    """

    settings: TextSettings
    source: TextSource
    sequences: dict[Side, list[list[int]]]

    @classmethod
    def find(cls, settings: TextSettings, model: ModelTokenizer, wanted: dict[Side, int]) -> "HeldOutText":
        """Find the dataset and pack the wanted number of sequences of each side.

        Raises:
            InputError: The dataset cannot be read, or has too little text, or conversations for a model without a chat
                template.
        """
        tokenize = model.of_documents(settings.format)
        source = resolve(settings.dataset, settings.name, settings.split, settings.revision).of_form(settings.format)
        sequences = held_out_sequences(
            wanted, source.shards, settings.column, settings.held_out_frac, settings.seq_len, tokenize
        )
        return cls(settings, source, sequences)

    def draw(self, which: Side) -> PositionDraw:
        """Positions at which the held-out sequences are evaluated."""
        positions = min(int(self.settings.positions_per_seq), MOST_HELD_OUT_POSITIONS)
        return PositionDraw(HELD_OUT_SEEDS[which], positions, self.settings.drawn_range)

    def all_batches(self, which: Side) -> HeldOutBatches:
        """All sequences of a side, the same in every process."""
        return HeldOutBatches(self.sequences[which], self.draw(which), int(self.settings.micro_batch_seqs), 0, 1)

    def batches(self, which: Side, trainer: Trainer | None) -> HeldOutBatches:
        """Return this process's share of a side's sequences.

        Raises:
            InputError: They cannot be divided evenly among the processes.
        """
        sequences = self.sequences[which]
        rank, world_size = rank_and_world_size(trainer)
        if len(sequences) % world_size != 0:
            raise InputError(
                f"{len(sequences)} held-out sequences cannot be divided evenly among {world_size} processes; "
                f"make --data.{which}_seqs a multiple of {world_size}."
            )
        return HeldOutBatches(sequences, self.draw(which), int(self.settings.micro_batch_seqs), rank, world_size)

    def identity(self) -> dict[str, object]:
        """Identity of the text, its packing and its held-out split, as plain values."""
        source, settings = self.source, self.settings
        names = "\n".join(shard.name for shard in source.shards)
        return {
            "shards": hashlib.sha256(names.encode()).hexdigest(),
            "dataset": source.repo_id,
            "name": source.name,
            "split": source.split,
            "commit": source.commit,
            "format": settings.format,
            "text_column": settings.column,
            "special_tokens": settings.special_tokens,
            "held_out_frac": settings.held_out_frac,
            "seq_len": settings.seq_len,
        }

    def reading(self) -> dict[str, object]:
        """Batch size and positions of the evaluation, as plain values."""
        settings = self.settings
        return {
            "micro_batch_seqs": int(settings.micro_batch_seqs),
            "positions_per_seq": int(settings.positions_per_seq),
            "position_range": list(settings.drawn_range),
        }


def rank_and_world_size(trainer: Trainer | None) -> tuple[int, int]:
    """Rank of this process and number of processes; (0, 1) outside a run."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def refuse_other_share(held_out_frac: float, trained_with: float) -> None:
    """Check that the text held out here was also held out from the training of the lens.

    Args:
        held_out_frac: Held-out fraction of this run.
        trained_with: Held-out fraction of the fit.

    Raises:
        InputError: They differ, so the lens may have been trained on the evaluation text.
    """
    if held_out_frac != trained_with:
        raise InputError(
            f"The lens was fitted with {trained_with:g} of the documents held out; with --data.held_out_frac "
            f"{held_out_frac:g} it would be evaluated on text it has seen: give --data.held_out_frac {trained_with:g}."
        )


def num_text_bytes(sequences: Iterable[list[int]], model: ModelTokenizer) -> tuple[int, int]:
    """UTF-8 bytes of packed sequences, and their number of tokens, without special tokens."""
    kept = list(sequences)
    special = set(model.tokenizer.all_special_ids)
    texts = model.tokenizer.batch_decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    tokens = sum(token not in special for sequence in kept for token in sequence)
    return sum(len(text.encode()) for text in texts), tokens
