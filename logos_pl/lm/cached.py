"""The residual stream of a growing sequence, read with a key-value cache."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.hooks import gathering
from logos_pl.lm.probing import PREFIX, probe_ids
from logos_pl.lm.row_watch import watch_rows
from logos_pl.lm.verify import BRANCH_ROUNDINGS

TIGHT = 1e-3
"""Largest difference between two float32 readings of a row that rounding explains, as a share of its norm."""
GROSS = 0.25
"""Difference that is too large for rounding in any number format, as a share of the row's norm."""


class CachedReader:
    """Reads sequences that extend one another, such as a reply token by token.

    Some state-space models give other numbers for several tokens after a cached prefix than for the same tokens read
    from the beginning (Jamba in transformers 5.23). This is tested first; such a model reads one token at a time.

    Args:
        lm: The frozen model.

    Attributes:
        ids: Tokens whose keys and values are cached.

    Raises:
        InputError: The model has no key-value cache, gives wrong numbers with it, or is streamed.
    """

    def __init__(self, lm: FrozenLM) -> None:
        if lm.streamed is not None:
            raise InputError(
                f"{lm.model_id} is streamed, and would be read from disk for every token: use a model that fits into "
                "memory."
            )
        if "past_key_values" not in signature(lm.anatomy.body.forward).parameters:
            raise InputError(f"{lm.model_id} has no key-value cache: use a model that has one.")
        self.lm = lm
        self.ids: tuple[int, ...] = ()
        self._cache: Any = None
        self._at_once = True
        if self._error() > (TIGHT if lm.dtype == torch.float32 else BRANCH_ROUNDINGS * torch.finfo(lm.dtype).eps):
            self._at_once = False
            if self._error() > GROSS:
                raise InputError(
                    f"{lm.model_id} gives other numbers with its key-value cache than without: use another model."
                )

    @torch.no_grad()
    def read(self, ids: Sequence[int]) -> Float[Tensor, "rows d_model"]:
        """Residuals of rows 0 … n at the last token of a sequence.

        Only tokens after those of `ids` are run. A sequence that does not extend them is read from its beginning.

        Args:
            ids: The whole sequence, at least one token.
        """
        wanted = tuple(ids)
        if len(wanted) <= len(self.ids) or wanted[: len(self.ids)] != self.ids:
            self.forget()
        new, cache = wanted[len(self.ids) :], self._cache
        self.forget()  # if the forward pass is interrupted, the cache may hold a part of it
        for tokens in [new] if cache is None or self._at_once else [(token,) for token in new]:
            rows, cache = self._step(tokens, cache)
        self.ids, self._cache = wanted, cache
        return rows

    def _step(self, tokens: Sequence[int], cache: Any) -> tuple[Float[Tensor, "rows d_model"], Any]:
        """Residuals at the last of some tokens that follow a cached prefix, and the extended cache."""
        lm, rows = self.lm, range(self.lm.num_blocks + 1)
        input_ids = torch.tensor([tokens], device=lm.device)
        kept = torch.empty(len(rows), 1, 1, lm.d_model, dtype=lm.stream_dtype, device=lm.device)
        last = torch.full_like(input_ids[:, :1], len(tokens) - 1)
        with gathering(*watch_rows(lm.anatomy.blocks, rows, last, kept)):
            out = lm.anatomy.body(input_ids=input_ids, past_key_values=cache, use_cache=True)
        if getattr(out, "past_key_values", None) is None:
            raise InputError(f"{lm.model_id} has no key-value cache: chat needs a model that has one.")
        return kept[:, 0, 0], out.past_key_values

    def _error(self) -> float:
        """Largest difference between a row read in two pieces and the same row read at once, as a share of its norm."""
        ids = probe_ids(self.lm.model)[0].tolist()
        whole = self.read(ids).float()
        self.forget()
        self.read(ids[:PREFIX])
        pieces = self.read(ids).float()
        self.forget()
        return float(((pieces - whole).norm(dim=-1) / whole.norm(dim=-1).clamp(min=1e-20)).max())

    def forget(self) -> None:
        """Drop the cache."""
        self.ids, self._cache = (), None
