"""Evaluates every lens on a batch of prompts in one forward pass."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.data.prompts import PromptBatch, TokenizedPrompt
from logos_pl.errors import InputError
from logos_pl.functional.blocks import position_pieces
from logos_pl.functional.last_row import LastRow, last_row
from logos_pl.functional.pair_readings import PairReadings, pair_readings
from logos_pl.functional.ranks import largest
from logos_pl.functional.readings import RowReadings
from logos_pl.kinds.registry import kinds, swept
from logos_pl.lenses.decoding import lens_readings
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.raw import RawLens
from logos_pl.lm.anatomy import exact_logits
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request, gather, read_in_groups
from logos_pl.sweeps.attribution import DirectLogitAttribution, LogitParts, NotAttributed
from logos_pl.sweeps.records import TOP_K


class BatchReading(NamedTuple):
    """Readings of every lens in a batch, on the CPU, with the prompts' tokens concatenated.

    Attributes:
        prompts: The prompts, in order.
        starts: Index of each prompt's first token in `tokens`; its tokens are followed by those of its answer except
            the last.
        followed: Tokens of each prompt that are followed through all of its rows and positions.
        lenses: Readings [rows, tokens] by lens; `target` is the next token of the answer.
        rows: The rows of these readings by lens: those that the lens reads, the last of them row n.
        teacher_entropy_bits: Entropy of the model's final distribution, per token.
        norm_to_raw: Comparison of norm lens and raw lens at the last tokens, with KL(P_norm ‖ P_raw): [rows, prompts].
        final_to_next: Comparison of final norm and norm of the next block; None if there is none.
        last_row: Comparison of row n with the model's logits, per prompt.
        residuals: Residual stream [rows, tokens, d_model] if requested, else None.
        logit_parts: Components of the answer's logit by prompt if requested, else None.
    """

    prompts: tuple[TokenizedPrompt, ...]
    starts: tuple[int, ...]
    followed: tuple[tuple[int, ...], ...]
    lenses: dict[str, RowReadings]
    rows: dict[str, tuple[int, ...]]
    teacher_entropy_bits: Float[Tensor, " tokens"]
    norm_to_raw: PairReadings
    final_to_next: PairReadings | None
    last_row: LastRow
    residuals: Float[Tensor, "rows tokens d_model"] | None
    logit_parts: tuple[LogitParts | NotAttributed, ...] | None = None


NUM_FOLLOWED = 4
"""Most tokens of a prompt that are followed."""

DECODED_BYTES = 2**27
"""Bound on the fp32 residuals decoded at a time, all rows of some tokens, in bytes."""


class _Read(NamedTuple):
    """Tokens whose logits are read at each token, besides the likeliest next tokens; −1 for none."""

    targets: Int[Tensor, " tokens"]
    contrasts: Int[Tensor, " tokens"]
    followed: Int[Tensor, "tokens followed"]


class PromptReader:
    """Reads batches of prompts at every row and position. Source: docs/method.md §5.

    Args:
        lm: The frozen model.
        lenses: Lenses by name, including `norm`; looked up in every batch.
        block_bytes: Upper bound on one block of logits, in bytes.
        attribution: Direct logit attribution; None: not run.

    Raises:
        InputError: A lens is bound to the head of another model.
    """

    def __init__(
        self,
        lm: FrozenLM,
        lenses: Mapping[str, Lens],
        block_bytes: int = 2**28,
        attribution: DirectLogitAttribution | None = None,
    ) -> None:
        for name, lens in lenses.items():
            refuse_other_model(lm, lens, name)
        self.lm = lm
        self.lenses = lenses
        self.block_bytes = block_bytes
        self.attribution = attribution
        self.rows = list(range(lm.num_blocks + 1))
        head = lenses["norm"].head
        self.raw = RawLens(head)
        self.by_norm: tuple[NormLens, NormLens] | None = None
        if lm.anatomy.next_norms is not None:
            self.by_norm = (NormLens(head.decoding_with("final")), NormLens(head.decoding_with("next")))

    @torch.no_grad()
    def read(self, batch: PromptBatch, keep_residuals: bool = False) -> BatchReading:
        """Run one forward pass and evaluate every lens at every row and token, and the checks at the last tokens."""
        starts, places, last, targets, contrasts = _layout(batch)
        found = gather(self.lm, [self.request(batch)])[0] if batch.residuals is None else batch.residuals
        h = found.rows.flatten(1, 2)
        if len(places) < h.shape[1]:  # there is padding
            h = h.index_select(1, places.to(h.device))
        at_end = h[:, last.to(h.device)]
        own = self.lenses["norm"].logits(at_end[-1:], self.rows[-1:])[0]
        followed = _followed(batch, own)
        read = _Read(targets, contrasts, _by_token(batch, followed))
        known = [name for name in swept() if name in self.lenses]
        # Names other than those of kinds come only from Python.
        named = [name for name in self.lenses if name not in {kind.name for kind in kinds()}]
        lenses = {name: self._read_lens(self.lenses[name], h, read) for name in (*known, *named)}
        pairs = None if self.by_norm is None else self._compare(*self.by_norm, at_end, targets[last])
        return BatchReading(
            prompts=batch.prompts,
            starts=starts,
            followed=followed,
            lenses=lenses,
            rows={name: self.lenses[name].rows for name in lenses},
            teacher_entropy_bits=lenses["norm"].entropy_bits[-1],
            norm_to_raw=self._compare(self.lenses["norm"], self.raw, at_end, targets[last]),
            final_to_next=pairs,
            last_row=self._check_last_row(own, at_end[-1:]),
            residuals=h.cpu() if keep_residuals else None,
            logit_parts=self._attribute(batch, found.beside, at_end),
        )

    def read_all(self, batches: Sequence[PromptBatch]) -> Iterator[BatchReading]:
        """Yield the readings of every batch; a streamed model reads many batches together."""
        for batch, found in read_in_groups(self.lm, batches, self.request):
            yield self.read(batch._replace(residuals=found))

    def request(self, batch: PromptBatch) -> Request:
        """What is read from the model on a batch: all rows and, for attribution, the branches at the last tokens."""
        request = Request(batch.input_ids, None, self.rows, batch.attention_mask)
        if self.attribution is None:
            return request
        _, places, last, _, _ = _layout(batch)
        branches, beside = self.attribution.watch(places[last])
        return request._replace(beside=beside, beside_room=branches)

    def _attribute(
        self, batch: PromptBatch, branches: Tensor | None, h: Tensor
    ) -> tuple[LogitParts | NotAttributed, ...] | None:
        if self.attribution is None or branches is None:
            return None
        return self.attribution.parts(batch.prompts, branches, h[0], h[-1])

    def _read_lens(self, lens: Lens, h: Tensor, read: "_Read") -> RowReadings:
        """Readings of a lens, on the CPU."""
        return lens_readings(
            lens,
            h,
            read.targets,
            read.contrasts,
            top_k=min(TOP_K, self.lm.vocab_size),
            followed=read.followed,
            block_bytes=self.block_bytes,
            piece_bytes=DECODED_BYTES,
        )

    def _compare(self, a: Lens, b: Lens, h: Tensor, targets: Tensor) -> PairReadings:
        """Comparison of two lenses, on the CPU."""
        parts = []
        for part in position_pieces(h.shape, DECODED_BYTES):
            (x_a, _), (x_b, _) = (lens.decode_inputs(h[:, part], self.rows) for lens in (a, b))
            part_targets = targets[part].to(h.device)
            parts.append(pair_readings(x_a, x_b, a.head.unembedding, part_targets, block_bytes=self.block_bytes))
        return PairReadings(*(torch.cat([t.cpu() for t in same], dim=1) for same in zip(*parts, strict=True)))

    def _check_last_row(self, logits: Float[Tensor, "prompts vocab"], h: Float[Tensor, "1 prompts d_model"]) -> LastRow:
        """Comparison of row n of the lens with the model's own modules in the model's dtype."""
        return LastRow(*(t.cpu() for t in last_row(logits, exact_logits(self.lm.anatomy, h)[0].float())))


def refuse_other_model(lm: FrozenLM, lens: Lens, name: str) -> None:
    """Check that a lens is bound to the model's head.

    Raises:
        InputError: It is bound to another model.
    """
    if lens.head.anatomy is not lm.anatomy:
        raise InputError(
            f"The {name} lens is bound to another model than {lm.model_id}: load it for this one, "
            "load_tuned_lens(path, lm)."
        )


def _layout(batch: PromptBatch) -> tuple[tuple[int, ...], Tensor, Tensor, Tensor, Tensor]:
    """Layout of the tokens without padding, on the CPU.

    Returns:
        Start of each prompt; indices of the tokens in the flat batch; indices of the prompts' last tokens; target and
        contrast of each token, −1 for none.
    """
    width = batch.input_ids.shape[1]
    starts: list[int] = []
    places: list[int] = []
    last: list[int] = []
    targets: list[int] = []
    contrasts: list[int] = []
    for number, prompt in enumerate(batch.prompts):
        answer, length = prompt.answer_tokens.ids, len(prompt.ids)
        starts.append(len(places))
        last.append(len(places) + length - 1)
        size = length + max(len(answer) - 1, 0)
        places += range(number * width, number * width + size)
        targets += [-1] * (length - 1) + [*(answer or (-1,))]
        contrast = prompt.contrast.first_id
        contrasts += [-1] * (length - 1) + [-1 if contrast is None else contrast] + [-1] * (size - length)
    return tuple(starts), *(torch.tensor(numbers) for numbers in (places, last, targets, contrasts))  # type: ignore[return-value]


def _followed(batch: PromptBatch, logits: Float[Tensor, "prompts vocab"]) -> tuple[tuple[int, ...], ...]:
    """Tokens that are followed: those of answer and contrast, and the model's likeliest after the prompt."""
    likeliest = largest(logits, min(NUM_FOLLOWED, logits.shape[-1]))[1].tolist()
    chosen = []
    for prompt, own in zip(batch.prompts, likeliest, strict=True):
        wanted = (prompt.answer_tokens.first_id, prompt.contrast.first_id, *own)
        chosen.append(tuple(dict.fromkeys(id_ for id_ in wanted if id_ is not None))[:NUM_FOLLOWED])
    return tuple(chosen)


def _by_token(batch: PromptBatch, followed: tuple[tuple[int, ...], ...]) -> Int[Tensor, "tokens followed"]:
    """The followed tokens of the prompt that each token belongs to; −1 for none."""
    sizes = torch.tensor([len(prompt.ids) + max(len(prompt.answer_tokens.ids) - 1, 0) for prompt in batch.prompts])
    table = torch.tensor([[*ids, *[-1] * (NUM_FOLLOWED - len(ids))] for ids in followed])
    return table.repeat_interleave(sizes, dim=0)
