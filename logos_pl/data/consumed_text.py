"""Counts of the text consumed, from the lane cursors of all processes."""

from collections.abc import Sequence
from typing import NamedTuple

from logos_pl.agreement import gather
from logos_pl.data.lanes import content_hash
from logos_pl.data.layout import Cursors
from logos_pl.data.source import TextSource
from logos_pl.settings.text import DocumentForm, SpecialTokens, TrainingTextSettings


class ConsumedText(NamedTuple):
    """Text consumed so far, over all processes.

    Attributes:
        repo_id: Hub id of the dataset.
        name: Configuration.
        split: Split.
        revision: Requested revision.
        commit: Commit on the Hub.
        num_shards: Number of shards of the split.
        sample_description: Description of how documents were selected.
        documents: Documents started.
        tokens: Tokens trained on.
        sequences: Packed sequences trained on.
        passes: Largest number of passes that a lane has completed over its part.
        content_hash: SHA-256 over the (shard, row, text digest) of every document consumed, in order, lane by lane.
        format: Format of the rows.
        special_tokens: Whether texts got the tokenizer's special tokens.
        added_tokens: The special tokens that were added to every text that did not already have them.
    """

    repo_id: str
    name: str | None
    split: str
    revision: str | None
    commit: str | None
    num_shards: int
    sample_description: str
    documents: int
    tokens: int
    sequences: int
    passes: int
    content_hash: str
    format: DocumentForm
    special_tokens: SpecialTokens
    added_tokens: list[str]


def gather_cursors(own: Cursors) -> Cursors:
    """Cursors of all lanes in lane order, each from the process that reads it; every process must call this."""
    return dict(sorted((lane, cursor) for part in gather(own) for lane, cursor in part.items()))


def count_consumed(
    source: TextSource, cursors: Cursors, settings: TrainingTextSettings, added_tokens: Sequence[str]
) -> ConsumedText:
    """Sum up the text consumed by all lanes."""
    held_out_frac, (number, parts) = settings.held_out_frac, settings.text_part
    of_part = "" if parts == 1 else f"of the others, part {number} of {parts} by the same hash is trained on; "
    rendered = "" if settings.format == "text" else "each conversation rendered by the model's chat template; "
    passes = max(cursor.text_pass for cursor in cursors.values())
    return ConsumedText(
        repo_id=source.repo_id,
        name=source.name,
        split=source.split,
        revision=source.revision,
        commit=source.commit,
        num_shards=len(source.shards),
        sample_description=(
            f"{len(cursors)} disjoint lanes over {len(source.shards)} shards, each in order; of the documents, "
            f"by a hash of their text, {held_out_frac:g} are held out for validation and {held_out_frac:g} for test; "
            f"{of_part}{rendered}packed left to right into {settings.seq_len} tokens; no document is in this "
            f"text more than {passes + 1} time(s)"
        ),
        documents=sum(cursor.documents for cursor in cursors.values()),
        tokens=sum(cursor.tokens for cursor in cursors.values()),
        sequences=sum(cursor.sequences for cursor in cursors.values()),
        passes=passes,
        content_hash=content_hash(cursors),
        format=settings.format,
        special_tokens=settings.special_tokens,
        added_tokens=list(added_tokens),
    )
