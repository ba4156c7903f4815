"""Sweeps whose records stay in memory: what `logos_pl.sweep()`, `logos-pl read` and `logos-pl chat` show."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from logos_pl.data.prompts import TOKENS_PER_BATCH, TokenizedPrompt, batches
from logos_pl.data.token_strings import TokenStrings
from logos_pl.errors import InputError
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.attribution import DirectLogitAttribution
from logos_pl.sweeps.milestones import Milestones, milestones
from logos_pl.sweeps.reader import PromptReader
from logos_pl.sweeps.recording import records_of
from logos_pl.sweeps.records import ContributionRecord, NextTokenRecord, PositionRecord, PromptRecords


class Sweep(NamedTuple):
    """Results of a sweep.

    Attributes:
        prompts: Records of each prompt.
    """

    prompts: list[PromptRecords]

    @property
    def next_token(self) -> list[NextTokenRecord]:
        """Records by prompt, lens and row for the token after the prompt: ``pandas.DataFrame(sweep.next_token)``."""
        return [record for prompt in self.prompts for rows in prompt.next_token.values() for record in rows]

    @property
    def positions(self) -> list[PositionRecord]:
        """Records by prompt, lens, row and position."""
        return [record for prompt in self.prompts for rows in prompt.positions.values() for record in rows]

    def at(self, place: str) -> list[PositionRecord]:
        """Records by prompt, lens and row at the last token of a named place, such as ``last``, ``reply`` or ``turn2``.

        Raises:
            InputError: A prompt has no place of that name.
        """
        found = []
        for prompt in self.prompts:
            positions = {of.name: of.last for of in prompt.places}
            if place not in positions:
                raise InputError(
                    f"The prompt {prompt.prompt.prompt_id} has no place {place!r}: it has {', '.join(positions)}."
                )
            rows = [record for rows in prompt.positions.values() for record in rows]
            found += [record for record in rows if record.pos == positions[place]]
        return found

    @property
    def contributions(self) -> list[ContributionRecord]:
        """Records by prompt and component of the answer's logit; empty without ``attribution``."""
        return [part for prompt in self.prompts if prompt.attribution for part in prompt.attribution.contributions]

    @property
    def milestones(self) -> dict[tuple[str, str, str], Milestones]:
        """Milestones by prompt id, variant and lens: first rows with a copy, with the answer, or close to the model."""
        return {
            (prompt.prompt.prompt_id, prompt.prompt.variant, lens): milestones(rows)
            for prompt in self.prompts
            for lens, rows in prompt.next_token.items()
        }


def read_tokenized(
    lm: FrozenLM, prompts: Sequence[TokenizedPrompt], lenses: Mapping[str, Lens], attribution: bool = False
) -> Sweep:
    """Evaluate lenses at every row and position of tokenised prompts.

    Args:
        lm: The model.
        prompts: The tokenised prompts.
        lenses: Lenses bound to the model, by name of their kind; ``norm`` is one of them.
        attribution: Also run direct logit attribution for the answers.

    Raises:
        InputError: The model has no tokenizer, a lens is bound to another model, or the logits cannot be attributed.
    """
    if lm.tokenizer is None:
        raise InputError(f"{lm.model_id} has no tokenizer to read prompts with: load it with one.")
    direct = DirectLogitAttribution(lm, lenses["norm"].head) if attribution else None
    reader, strings = PromptReader(lm, lenses, attribution=direct), TokenStrings(lm.tokenizer)
    special, tied = set(lm.tokenizer.all_special_ids), lm.tied_embeddings
    return Sweep(
        [
            records
            for reading in reader.read_all(batches(prompts, TOKENS_PER_BATCH))
            for records in records_of(reading, strings, special, tied)
        ]
    )
