"""Python API for notebooks: load a model, load a lens, read any row.

Examples:
    >>> lm = load_model("demo")                                             # doctest: +SKIP
    >>> lens, provenance = load_tuned_lens("checkpoints/tuned_lenses/demo", lm)  # doctest: +SKIP
    >>> lens_logits(lm, lens, "The capital of Germany is", row=5).argmax(-1)     # doctest: +SKIP
"""

import os
import warnings
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.artifacts.imported_lens import load_imported_lens
from logos_pl.artifacts.jacobian import load_jacobian
from logos_pl.artifacts.prism import load_prism
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.tuned_lens import load_lenses
from logos_pl.data.given_prompts import Asked, prompts_in
from logos_pl.data.prompt_types import Prompt
from logos_pl.data.prompts import TokenizedPrompt, remarks, tokenize_prompt
from logos_pl.data.tokenizing import Tokenizer
from logos_pl.errors import InputError
from logos_pl.hub.source import lens_folder
from logos_pl.kinds.imported import is_imported
from logos_pl.kinds.registry import kind_of, kinds, swept
from logos_pl.kinds.request import LensRequest
from logos_pl.lenses.head import DecodingNorm, Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.skipping import skipping_sums
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.load_model import load_model
from logos_pl.lm.residuals import residuals
from logos_pl.settings.text import SpecialTokens
from logos_pl.sweeps.in_memory import Sweep, read_tokenized
from logos_pl.sweeps.reader import refuse_other_model

__all__ = [
    "Sweep",
    "lens_logits",
    "load_imported_lens",
    "load_jacobian",
    "load_lens",
    "load_model",
    "load_prism",
    "load_tuned_lens",
    "norm_lens",
    "skipping_perplexity",
    "sweep",
]


def load_tuned_lens(
    source: str | os.PathLike[str],
    lm: FrozenLM | None = None,
    *,
    model_id: str | None = None,
    revision: str | None = None,
    transfer: bool = False,
) -> tuple[TunedLens, Provenance]:
    """Load a tuned lens and check it against its hashes, its repository's index and the model.

    Args:
        source: Folder of the lens, a folder laid out as on the Hub, or the id of a repository on the Hub, from which
            only this lens is downloaded (from the local cache if the Hub is unreachable).
        lm: The model; None: return an unbound lens without checking it against a model.
        model_id: Model whose lens to load from a repository; default: that of ``lm``, or the only one.
        revision: Release, branch or commit on the Hub; default: main.
        transfer: Accept a lens that was fitted on another model of the same shape, such as the model before
            fine-tuning; a warning reports how far the two differ.

    Returns:
        The lens, bound to the model's head if a model is given, and its provenance.

    Raises:
        InputError: The lens does not exist, a file is missing or altered, the weights do not match the provenance, or
            the lens was trained on another model; the message says what differs.
        RunError: The disk or the Hub fails.
    """
    if model_id is None and lm is not None and not transfer:
        model_id = lm.model_id
    lens, _, provenance, moved = load_lenses(lens_folder(source, model_id, revision), lm, transfer=transfer)
    if moved is not None:
        warnings.warn(f"{moved.sentence('tuned lens')}.", stacklevel=2)
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
    """Load a lens of any kind, bound to a model and checked against it; returns the lens and its origin.

    Args:
        kind: Name of the kind, such as ``tuned``.
        lm: The model.
        source: A folder or an id on the Hub, depending on the kind.
        revision: Release, branch or commit on the Hub.
        decoding_norm: Norm with which the lens was fitted.

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
        raise InputError(f"A {kind_of(kind).label} is loaded from files: give its source.")
    loaded = found.load(lm, Head(lm.anatomy, decoding_norm=decoding_norm))
    return loaded.lenses[kind], loaded.origin


def norm_lens(lm: FrozenLM, decoding_norm: DecodingNorm = "final") -> NormLens:
    """Return the norm lens (logit lens): the model's head at every row.

    Args:
        lm: The model.
        decoding_norm: The ``final`` norm at every row, or the norm of the ``next`` block.

    Raises:
        InputError: ``next`` is given, but the blocks do not begin with a norm.
    """
    return NormLens(Head(lm.anatomy, decoding_norm=decoding_norm))


@torch.no_grad()
def lens_logits(lm: FrozenLM, lens: Lens, prompt: Asked, row: int) -> Float[Tensor, "seq vocab"]:
    """Return the next-token logits of a lens at one row, for every position of a prompt, in fp32.

    Args:
        lm: The model; its tokenizer adds its special tokens, such as BOS, to a text.
        lens: A lens bound to the model.
        prompt: A text, a conversation or token ids, as for ``sweep``.
        row: 0 is the embedding, L the residual stream after block L; the last row gives the model's own logits.

    Raises:
        InputError: The model has no tokenizer, the prompt has no tokens or more than the model's context or cannot be
            used, or there is no such row.
    """
    if not 0 <= row <= lm.num_blocks:
        raise InputError(f"Row {row} cannot be read: {lm.model_id} has rows 0 to {lm.num_blocks}.")
    refuse_other_model(lm, lens, "given")
    if isinstance(prompt, str):
        input_ids = _tokenised(lm, prompt)
    else:
        (tokenized,) = _tokenized_prompts(lm, [prompt], "auto")
        input_ids = torch.tensor([tokenized.ids], dtype=torch.long)
    return lens.logits(residuals(lm, input_ids, None, [row])[:, 0], [row])[0]


def _tokenised(lm: FrozenLM, text: str) -> Int[Tensor, "1 seq"]:
    """Tokenise a text and check that it fits the context."""
    if lm.tokenizer is None:
        raise InputError(f"{lm.model_id} has no tokenizer to read a prompt with: load it with one.")
    input_ids = torch.tensor([Tokenizer(lm.tokenizer, lm.vocab_size)(text)], dtype=torch.long)
    if (num_tokens := input_ids.shape[1]) == 0:
        raise InputError("The prompt has no tokens: give a longer one.")
    if lm.context_length is not None and num_tokens > lm.context_length:
        raise InputError(
            f"The prompt has {num_tokens} tokens, but {lm.model_id} reads at most {lm.context_length}: shorten it."
        )
    return input_ids


@torch.no_grad()
def skipping_perplexity(lm: FrozenLM, lens: Lens, text: str, skipped: int) -> float:
    """Return the perplexity of a text when a lens replaces the last blocks. Source: docs/method.md §6.

    Args:
        lm: The model.
        lens: A lens bound to the model, applied to the row after the last block that runs.
        text: Text of at least two tokens, including special tokens.
        skipped: Number m of blocks to skip; 0 gives the perplexity of the model.

    Raises:
        InputError: The model has no tokenizer, the text is too short or too long, or the model has too few blocks.
    """
    if not 0 <= skipped < lm.num_blocks:
        raise InputError(f"{skipped} of {lm.num_blocks} blocks cannot be skipped: choose 0 to {lm.num_blocks - 1}.")
    input_ids = _tokenised(lm, text)
    if input_ids.shape[1] < 2:
        raise InputError("The text has no second token to predict: give a longer one.")
    refuse_other_model(lm, lens, "given")
    (perplexity,) = skipping_sums(lm, lens, input_ids, [lm.num_blocks - skipped]).perplexities()
    return perplexity


def sweep(
    model: FrozenLM,
    prompts: Sequence[Asked | tuple[Asked, str] | Prompt],
    lenses: Mapping[str, Lens] | None = None,
    attribution: bool = False,
    special_tokens: SpecialTokens = "auto",
) -> Sweep:
    """Evaluate the norm lens and the given lenses at every row and position of every prompt.

    Args:
        model: The model.
        prompts: Texts, conversations (``[{"role": "user", "content": "…"}, …]``, rendered by the model's chat template)
            or token ids (``[1, 2, 3]``, read as they are); pairs of one of these and an answer; or prompts with
            variants and contrasts.
        lenses: Further lenses bound to the model, by the name of their kind, such as ``tuned``; imported ones by any
            name; ``norm`` replaces the default norm lens.
        attribution: Also run direct logit attribution for the answers.
        special_tokens: ``auto``: a text gets the special tokens that the tokenizer adds, such as BOS, once; ``none``:
            it gets none.

    Raises:
        InputError: The model has no tokenizer or no chat template for a conversation, a lens has an unknown name or is
            bound to another model, two prompts have the same id and variant, a prompt or answer cannot be used, or the
            model's logits cannot be attributed.
    """
    if model.tokenizer is None:
        raise InputError(f"{model.model_id} has no tokenizer to read prompts with: load it with one.")
    if isinstance(prompts, str):
        raise InputError("The prompts are a single text: give a list, [prompt].")
    given = dict(lenses or {})
    if unknown := sorted(name for name in set(given) - set(swept()) if not is_imported(given[name])):
        raise InputError(f"There is no lens named {unknown[0]!r}: choose among {', '.join(swept())}.")
    named = {"norm": norm_lens(model)} | given
    return read_tokenized(model, _tokenized_prompts(model, prompts, special_tokens), named, attribution)


def _tokenized_prompts(
    model: FrozenLM, given: Sequence[Asked | tuple[Asked, str] | Prompt], special_tokens: SpecialTokens
) -> list[TokenizedPrompt]:
    """Tokenise prompts and warn of anything unusual about them."""
    if model.tokenizer is None:
        raise InputError(f"{model.model_id} has no tokenizer to read prompts with: load it with one.")
    tokenized = [
        tokenize_prompt(model.tokenizer, prompt, model.context_length, model.vocab_size, special_tokens)
        for prompt in prompts_in(given)
    ]
    for remark in remarks(tokenized):
        warnings.warn(f"{model.model_id}: {remark}", stacklevel=3)
    return tokenized
