"""A few lines for a notebook: load a model, load a lens, read any row.

>>> lm = load_model("demo")                                             # doctest: +SKIP
>>> lens, provenance = load_tuned_lens("checkpoints/tuned_lenses/demo", lm)  # doctest: +SKIP
>>> lens_logits(lm, lens, "The capital of Germany is", row=5).argmax(-1)     # doctest: +SKIP
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.artifacts.prism import load_prism
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.tuned_lens import load_lenses
from logos_pl.artifacts.tuned_lens_format import load_imported_lens
from logos_pl.data.prompt_types import Prompt
from logos_pl.data.prompts import TOKENS_PER_BATCH, ask, batches, remarks
from logos_pl.data.token_strings import TokenStrings
from logos_pl.data.tokenizing import Tokenizer
from logos_pl.errors import InputError
from logos_pl.hub.source import lens_folder
from logos_pl.kinds.registry import kind_of, kinds, swept
from logos_pl.kinds.request import LensRequest
from logos_pl.lenses.head import DecodingNorm, Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.skipping import skipping_sums
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.devices import choose_device, measure_memory
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.memory import StepSize
from logos_pl.lm.model_shape import model_shape
from logos_pl.lm.residuals import residuals
from logos_pl.sweeps.attribution import DirectLogitAttribution
from logos_pl.sweeps.milestones import Milestones, milestones
from logos_pl.sweeps.reader import PromptReader, refuse_other_model
from logos_pl.sweeps.recording import records_of
from logos_pl.sweeps.records import ContributionRecord, NextTokenRecord, PositionRecord, PromptRecords

__all__ = [
    "Sweep",
    "lens_logits",
    "load_imported_lens",
    "load_lens",
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
    choice = choose_device(model_shape(model_id, revision), measure_memory(), override=device, step=StepSize(rank=0))
    wanted = choice.dtype if dtype == "auto" else dtype
    return FrozenLM.load(model_id, revision=revision, dtype=wanted, device=choice.device)


def load_tuned_lens(
    source: str | os.PathLike[str],
    lm: FrozenLM | None = None,
    *,
    model_id: str | None = None,
    revision: str | None = None,
) -> tuple[TunedLens, Provenance]:
    """A tuned lens, checked against its own records, those of its repository, and the model it is to read.

    Args:
        source: Its folder, a folder in the layout of the Hub, or the id of a repository there, of which the files of
            this lens alone are fetched, and taken from the local cache where the Hub cannot be reached.
        lm: The model; None gives a lens without a head, to be bound later and unchecked against any model.
        model_id: Whose lens of a repository; left out: the one of ``lm``, or the only one there is.
        revision: Release, branch or commit on the Hub; left out: the newest state.

    Returns:
        The lens, bound to the model's head if there is a model, and where it comes from.

    Raises:
        InputError: There is no such lens, a file is missing or altered, the weights are not what the provenance says,
            or the model is not the one the lens was trained on; the message says what differs.
        RunError: The disk or the Hub fails.
    """
    if model_id is None and lm is not None:
        model_id = lm.model_id
    lens, _, provenance = load_lenses(lens_folder(source, model_id, revision), lm)
    if model_id is not None and provenance.model_id != model_id:
        raise InputError(f"{os.fspath(source)} holds the lens of {provenance.model_id}, not of {model_id}.")
    return lens, provenance


def load_lens(
    kind: str,
    lm: FrozenLM,
    source: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    decoding_norm: DecodingNorm = "final",
) -> tuple[Lens, object]:
    """A lens of any kind, bound to a model and checked against it, and where it comes from.

    Args:
        kind: Its name, such as ``tuned``.
        lm: The model.
        source: Where the lens is: a folder or an id on the Hub, as its kind takes it.
        revision: Release, branch or commit on the Hub.
        decoding_norm: The norm it was made with.

    Raises:
        InputError: There is no such kind or no such lens, or it does not fit the model.
        RunError: The disk or the Hub fails.
    """
    finders = {of.name: of.find for of in kinds() if of.find is not None}
    if kind not in finders:
        *first, last = finders
        raise InputError(f"There is no kind of lens named {kind!r}: choose {', '.join(first)} or {last}.")
    named = None if source is None else os.fspath(source)
    found = finders[kind](LensRequest(lm.model_id, lm.clean_model_name, source=named, revision=revision))
    if not found.there:
        raise InputError(f"A {kind_of(kind).label} is loaded from somewhere: name its source.")
    loaded = found.load(lm, Head(lm.anatomy, decoding_norm=decoding_norm))
    return loaded.lenses[kind], loaded.origin


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
        row: 0 is the embedding, L the residual stream after block L; the last row gives the model's own logits.

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
    input_ids = torch.tensor([Tokenizer(lm.tokenizer, lm.vocab_size)(text)], dtype=torch.long)
    if (num_tokens := input_ids.shape[1]) == 0:
        raise InputError("The prompt has no tokens: give a text of at least one.")
    if lm.context_length is not None and num_tokens > lm.context_length:
        raise InputError(
            f"The prompt has {num_tokens} tokens, and {lm.model_id} reads at most {lm.context_length}: shorten it."
        )
    return input_ids


@torch.no_grad()
def skipping_perplexity(lm: FrozenLM, lens: Lens, text: str, skipped: int) -> float:
    """Perplexity of a text when a lens replaces the last blocks, which do not run. Source: docs/method.md §6.

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
    def contributions(self) -> list[ContributionRecord]:
        """A record per prompt and component of the answer's logit; none unless the sweep was asked for them."""
        return [part for prompt in self.prompts if prompt.attribution for part in prompt.attribution.contributions]

    @property
    def milestones(self) -> dict[tuple[str, str, str], Milestones]:
        """Where each lens first copies, knows the answer, comes near the model: by prompt id, variant and lens."""
        return {
            (prompt.prompt.prompt_id, prompt.prompt.variant, lens): milestones(rows)
            for prompt in self.prompts
            for lens, rows in prompt.next_token.items()
        }


def sweep(
    model: FrozenLM,
    prompts: Sequence[str | tuple[str, str] | Prompt],
    lenses: Mapping[str, Lens] | None = None,
    attribution: bool = False,
) -> Sweep:
    """Every prompt at every row and position, as the norm lens and the given ones read them from one forward pass.

    Args:
        model: The model.
        prompts: Texts, pairs of text and answer, or prompts with variants and contrasts.
        lenses: Further lenses bound to the model, by the name of their kind, such as ``tuned``; ``norm`` replaces the
            plain one.
        attribution: Also attribute the answers' logits to embedding, attention, MLP and biases.

    Raises:
        InputError: The model has no tokenizer, a lens has another name or is bound to another model, two prompts have
            one id and variant, a prompt or answer cannot be used, or the model's logits cannot be attributed.
    """
    if model.tokenizer is None:
        raise InputError(f"{model.model_id} has no tokenizer to read prompts with: load it with one.")
    if isinstance(prompts, str):
        raise InputError("The prompts are one text: give a list of them, [prompt].")
    unknown = sorted(set(lenses or {}) - set(swept()))
    if unknown:
        raise InputError(f"There is no lens named {unknown[0]!r}: name them among {', '.join(swept())}.")
    named = {"norm": norm_lens(model)} | dict(lenses or {})
    asked = [ask(model.tokenizer, prompt, model.context_length, model.vocab_size) for prompt in _prompts(prompts)]
    for remark in remarks(asked):
        warnings.warn(f"{model.model_id}: {remark}", stacklevel=2)
    direct = DirectLogitAttribution(model, named["norm"].head) if attribution else None
    reader, strings = PromptReader(model, named, attribution=direct), TokenStrings(model.tokenizer)
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
