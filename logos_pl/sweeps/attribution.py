"""Direct logit attribution: contributions of embedding, attention, MLP and biases to the logits after prompts."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.data.prompts import TokenizedPrompt
from logos_pl.functional.contributions import Readout, frozen_scale, logit_contributions, rounding_bound
from logos_pl.lenses.head import Head
from logos_pl.lenses.readout import readout
from logos_pl.lm.anatomy import exact_logits
from logos_pl.lm.branches import find_branches, watch_branches
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.hooks import Watch
from logos_pl.sweeps.records import ContributionRecord, LogitAttribution


class Component(NamedTuple):
    """A component of a logit: name, kind and block, if any."""

    name: str
    kind: str
    layer: int | None


class LogitParts(NamedTuple):
    """Logits of one or two tokens after a prompt and their components, in nats, on the CPU.

    Attributes:
        token_ids: First token of the answer or, without a resolved answer, the model's top-1 token; then the first
            token of the contrast, if both are resolved.
        components: Component of each row of `contributions`.
        contributions: Contributions in fp64.
        norm_scale: Scale that the final norm applies to the last row, frozen.
        model_logits: Logits of the model before any soft-cap.
        softcap: Bound of the model's logits, or None.
    """

    token_ids: tuple[int, ...]
    components: tuple[Component, ...]
    contributions: Float[Tensor, "components tokens"]
    norm_scale: float
    model_logits: list[float]
    softcap: float | None


class NotAttributed(NamedTuple):
    """Result for a prompt whose logits could not be attributed.

    Attributes:
        reason: Reason in one sentence.
    """

    reason: str


class DirectLogitAttribution:
    """Attributes the logits after the prompts of a batch to components, in the forward pass of the sweep.

    Args:
        lm: The frozen model.
        head: Its head.

    Raises:
        InputError: The model's blocks do not add the outputs of an attention and an MLP to the residual stream.
    """

    def __init__(self, lm: FrozenLM, head: Head) -> None:
        self.head = head
        self.branches = find_branches(lm.model, lm.anatomy)
        self._uncapped = replace(lm.anatomy, softcap=None)
        self._dtype, self._device = lm.stream_dtype, lm.device

    def watch(self, places: Int[Tensor, " prompts"]) -> tuple[Float[Tensor, "blocks 2 prompts d_model"], Watch]:
        """Buffer for outputs of attention and MLP at some positions of the flat batch, and the watch that fills it."""
        anatomy = self.head.anatomy
        size = (anatomy.num_blocks, 2, len(places), anatomy.d_model)
        kept = torch.empty(size, dtype=self._dtype, device=self._device)
        return kept, watch_branches(self.branches, kept, places.to(self._device))

    def parts(
        self,
        prompts: Sequence[TokenizedPrompt],
        branches: Float[Tensor, "blocks 2 prompts d_model"],
        embedding: Float[Tensor, "prompts d_model"],
        last_row: Float[Tensor, "prompts d_model"],
    ) -> tuple[LogitParts | NotAttributed, ...]:
        """Components of every prompt's logits, from the branches recorded at the last tokens.

        A prompt is not attributed if the components differ from the last row by more than rounding.
        """
        logits = exact_logits(self._uncapped, last_row)
        added = torch.cat([embedding[None], branches.flatten(0, 1)]).cpu()
        ends = last_row.cpu()
        return tuple(
            self._attribute(prompt, added[:, number].double(), ends[number].double(), logits[number])
            for number, prompt in enumerate(prompts)
        )

    def _attribute(
        self,
        prompt: TokenizedPrompt,
        added: Float[Tensor, "added d_model"],
        last_row: Float[Tensor, " d_model"],
        logits: Float[Tensor, " vocab"],
    ) -> LogitParts | NotAttributed:
        rounding = last_row - added.sum(dim=0)
        # Non-finite values are reported elsewhere.
        if (rounding.abs() > rounding_bound(added, self._dtype)).any():
            return NotAttributed(
                f"After the prompt {prompt.prompt.prompt_id} ({prompt.prompt.variant}), embedding, attention and MLP "
                f"of {self.head.anatomy.architecture} are {float(rounding.abs().max()):.2g} away from the last row, "
                "more than rounding explains: its logits are not attributed to components."
            )
        token_ids, final = _tokens(prompt, logits), self.head.final
        read, centred = readout(self.head, token_ids), final.kind == "layer"
        scale = last_row.new_ones(()) if final.kind == "identity" else frozen_scale(last_row, final.eps, centred)
        shares = logit_contributions(torch.cat([added, rounding[None]]), read.direction, scale, centred)
        biases = _biases(read)
        return LogitParts(
            token_ids=token_ids,
            components=(*_components(len(self.branches)), *(Component(name, "bias", None) for name in biases)),
            contributions=torch.cat([shares, *(bias[None] for bias in biases.values())]),
            norm_scale=float(scale),
            model_logits=logits[list(token_ids)].tolist(),
            softcap=self.head.unembedding.softcap,
        )


def logit_attribution(
    prompt: TokenizedPrompt, parts: LogitParts, token_string: Callable[[int], str]
) -> LogitAttribution:
    """Attribution of a prompt as records, the total last."""
    token_id, contrast_id = (*parts.token_ids, None)[:2]
    assert token_id is not None
    contrast = None if contrast_id is None else token_string(contrast_id)
    sums = [*parts.contributions.tolist(), parts.contributions.sum(dim=0).tolist()]
    records = tuple(
        ContributionRecord(
            prompt_id=prompt.prompt.prompt_id,
            prompt_variant=prompt.prompt.variant,
            component=component.name,
            kind=component.kind,
            layer=component.layer,
            token_id=token_id,
            token=token_string(token_id),
            contribution_nats=nats[0],
            contrast_id=contrast_id,
            contrast=contrast,
            margin_contribution_nats=_margin(nats),
        )
        for component, nats in zip((*parts.components, Component("total", "total", None)), sums, strict=True)
    )
    logit, cap = parts.model_logits[0], parts.softcap
    return LogitAttribution(
        contributions=records,
        norm_scale=parts.norm_scale,
        model_logit_nats=logit,
        model_margin_nats=_margin(parts.model_logits),
        capped_logit_nats=None if cap is None else cap * math.tanh(logit / cap),
    )


def _margin(logits: Sequence[float]) -> float | None:
    """First logit minus second; None without a second."""
    return logits[0] - logits[1] if len(logits) == 2 else None


def _tokens(prompt: TokenizedPrompt, logits: Float[Tensor, " vocab"]) -> tuple[int, ...]:
    answer, contrast = prompt.answer_tokens.first_id, prompt.contrast.first_id
    if answer is None:
        return (int(logits.argmax()),)
    return (answer,) if contrast is None else (answer, contrast)


def _components(num_blocks: int) -> Iterator[Component]:
    yield Component("embedding", "embedding", None)
    for layer in range(1, num_blocks + 1):
        yield Component(f"attn_{layer}", "attention", layer)
        yield Component(f"mlp_{layer}", "mlp", layer)
    yield Component("rounding", "rounding", None)


def _biases(read: Readout) -> dict[str, Float[Tensor, " tokens"]]:
    named = {"norm_bias": read.norm_bias, "projection_bias": read.projection_bias, "head_bias": read.head_bias}
    return {name: bias for name, bias in named.items() if bias is not None}
