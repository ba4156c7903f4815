"""A few lines for a notebook: load a model, load a lens, read any row.

>>> lm = load_model("demo")                                             # doctest: +SKIP
>>> lens, provenance = load_tuned_lens("checkpoints/tuned_lenses/demo", lm)  # doctest: +SKIP
>>> lens_logits(lm, lens, "The capital of Germany is", row=5).argmax(-1)     # doctest: +SKIP
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.analysis.milestones import Milestones, milestones
from logos_pl.artifacts import load_prism, load_tuned_lens
from logos_pl.artifacts.tuned_lens_format import load_imported_lens
from logos_pl.data.prompts import TOKENS_PER_BATCH, ask, batches
from logos_pl.data.token_strings import TokenStrings
from logos_pl.errors import InputError
from logos_pl.lenses.head import DecodingNorm, Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.skipping import skipping_sums
from logos_pl.lm.devices import choose_device, measure_memory
from logos_pl.lm.frozen import FrozenLM, model_shape
from logos_pl.lm.residuals import residuals
from logos_pl.modules.reading import SWEPT, PromptReader, refuse_other_model
from logos_pl.modules.recording import records_of
from logos_pl.records import NextTokenRecord, PositionRecord, Prompt, PromptRecords

__all__ = [
    "Sweep",
    "lens_logits",
    "load_imported_lens",
    "load_model",
    "load_prism",
    "load_tuned_lens",
    "norm_lens",
    "skipping_perplexity",
    "sweep",
]


def load_model(
    model_id: str, *, revision: str | None = None, dtype: str | torch.dtype = "auto", device: str = "auto"
) -> FrozenLM:
    """A frozen model with its tokenizer, its head proved exact.

    Args:
        model_id: Hub id of a causal language model, a folder with its files, or ``demo`` for the bundled one.
        revision: Branch, tag or commit on the Hub.
        dtype: ``float32``, ``bfloat16`` or ``float16``; ``auto``: what suits model and device.
        device: A device name; ``auto``: the first of cuda, mps and cpu with room for the model.

    Raises:
        InputError: The model cannot be found, read or supported, or there is no such device or no room.
    """
    choice = choose_device(model_shape(model_id, revision), measure_memory(), override=device, rank=0)
    wanted = choice.dtype if dtype == "auto" else dtype
    return FrozenLM.load(model_id, revision=revision, dtype=wanted, device=choice.device)


def norm_lens(lm: FrozenLM, decoding_norm: DecodingNorm = "final") -> NormLens:
    """The untrained lens: the model's own head at every row.

    Args:
        lm: The model.
        decoding_norm: Its ``final`` norm at every row, or the norm that reads the row ``next``.

    Raises:
        InputError: ``next`` where no norm reads the rows.
    """
    return NormLens(Head(lm.anatomy, decoding_norm=decoding_norm))


@torch.no_grad()
def lens_logits(lm: FrozenLM, lens: Lens, prompt: str, row: int) -> Float[Tensor, "seq vocab"]:
    """Next-token logits at every position of a prompt, in fp32, as ``lens`` reads them from one row.

    Args:
        lm: The model; its tokenizer adds its own special tokens, such as BOS.
        lens: A lens bound to the model, fitted or imported, or its norm lens.
        prompt: Any text.
        row: 0 is the embedding, L the residual stream after block L; the last row gives the
            model's own logits, computed in fp32.

    Raises:
        InputError: The model has no tokenizer, the prompt has no tokens or more than the model's context, or there is
            no such row.
    """
    if not 0 <= row <= lm.num_blocks:
        raise InputError(f"Row {row} cannot be read: {lm.model_id} has rows 0 to {lm.num_blocks}.")
    refuse_other_model(lm, lens, "given")
    return lens.logits(residuals(lm, _tokenised(lm, prompt), None, [row])[:, 0], [row])[0]


def _tokenised(lm: FrozenLM, text: str) -> Int[Tensor, "1 seq"]:
    """The tokens of a text that fits the model."""
    if lm.tokenizer is None:
        raise InputError(f"{lm.model_id} has no tokenizer to read a prompt with: load it with one.")
    input_ids = torch.tensor([lm.tokenizer(text)["input_ids"]], dtype=torch.long)
    num_tokens = input_ids.shape[1]
    if num_tokens == 0:
        raise InputError("The prompt has no tokens: give a text of at least one.")
    if lm.context_length is not None and num_tokens > lm.context_length:
        raise InputError(
            f"The prompt has {num_tokens} tokens, and {lm.model_id} reads at most {lm.context_length}: shorten it."
        )
    return input_ids


@torch.no_grad()
def skipping_perplexity(lm: FrozenLM, lens: Lens, text: str, skipped: int) -> float:
    """Perplexity of a text when the last blocks are replaced by a lens; they do not even run. Source: SPEC §6.

    Args:
        lm: The model.
        lens: A lens bound to the model; it reads the row after the last block that runs.
        text: Any text of at least two tokens, the tokenizer's own special ones included.
        skipped: Number m of blocks to skip; 0 gives the model's own perplexity.

    Raises:
        InputError: The model has no tokenizer, the text is too short or too long, or the model has no more blocks.
    """
    if not 0 <= skipped < lm.num_blocks:
        raise InputError(f"{skipped} of {lm.num_blocks} blocks cannot be skipped: choose 0 to {lm.num_blocks - 1}.")
    input_ids = _tokenised(lm, text)
    if input_ids.shape[1] < 2:
        raise InputError("The text has no second token to predict: give a longer one.")
    refuse_other_model(lm, lens, "given")
    (perplexity,) = skipping_sums(lm, lens, input_ids, [lm.num_blocks - skipped]).perplexities()
    return perplexity


class Sweep(NamedTuple):
    """What all lenses read in all prompts.

    Attributes:
        prompts: All that was read, prompt by prompt.
    """

    prompts: list[PromptRecords]

    @property
    def next_token(self) -> list[NextTokenRecord]:
        """A record per prompt, lens and row, on the token after the prompt: ``pandas.DataFrame(sweep.next_token)``."""
        return [record for prompt in self.prompts for rows in prompt.next_token.values() for record in rows]

    @property
    def positions(self) -> list[PositionRecord]:
        """A record per prompt, lens, row and position."""
        return [record for prompt in self.prompts for rows in prompt.positions.values() for record in rows]

    @property
    def milestones(self) -> dict[tuple[str, str, str], Milestones]:
        """Where each lens first copies, knows the answer, comes near the model: by prompt id, variant and lens."""
        return {
            (prompt.prompt.prompt_id, prompt.prompt.variant, lens): milestones(rows)
            for prompt in self.prompts
            for lens, rows in prompt.next_token.items()
        }


def sweep(
    model: FrozenLM, prompts: Sequence[str | tuple[str, str] | Prompt], lenses: Mapping[str, Lens] | None = None
) -> Sweep:
    """Every prompt at every row and position, as the norm lens and the given ones read them from one forward pass.

    Args:
        model: The model.
        prompts: Texts, pairs of text and answer, or prompts with variants and contrasts.
        lenses: Further lenses bound to the model, ``tuned``, ``prism`` or ``imported`` by name; ``norm`` replaces the
            plain one.

    Raises:
        InputError: The model has no tokenizer, a lens has another name or is bound to another model, two prompts have
            one id and variant, or a prompt or answer cannot be used.
    """
    if model.tokenizer is None:
        raise InputError(f"{model.model_id} has no tokenizer to read prompts with: load it with one.")
    if isinstance(prompts, str):
        raise InputError("The prompts are one text: give a list of them, [prompt].")
    unknown = sorted(set(lenses or {}) - set(SWEPT))
    if unknown:
        raise InputError(f"There is no lens named {unknown[0]!r}: name them among {', '.join(SWEPT)}.")
    named = {"norm": norm_lens(model)} | dict(lenses or {})
    asked = [ask(model.tokenizer, prompt, model.context_length) for prompt in _prompts(prompts)]
    reader, strings = PromptReader(model, named), TokenStrings(model.tokenizer)
    special, tied = set(model.tokenizer.all_special_ids), model.tied_embeddings
    read = [
        records
        for batch in batches(asked, TOKENS_PER_BATCH)
        for records in records_of(reader.read(batch), strings, special, tied)
    ]
    return Sweep(read)


def _prompts(given: Sequence[str | tuple[str, str] | Prompt]) -> list[Prompt]:
    prompts = []
    for number, prompt in enumerate(given, start=1):
        if isinstance(prompt, Prompt):
            prompts.append(prompt)
        else:
            text, answer = (prompt, None) if isinstance(prompt, str) else prompt
            prompts.append(Prompt(f"p{number}", "orig", text, answer))
    names = [(prompt.prompt_id, prompt.variant) for prompt in prompts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two prompts are called {twice[0]} ({twice[1]}): give every prompt an id of its own.")
    return prompts
