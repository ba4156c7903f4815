"""The typed rows of a sweep: what was asked, and what each lens read; the schema all that follows reads."""

from typing import NamedTuple

from logos_pl.data.prompt_types import AnswerTokens, Prompt

TOP_K = 10
"""Tokens listed for every distribution, likeliest first."""

SOFT_WINDOWS = (1, 2, 3)
"""Numbers of rows over which soft copy-collapse looks at the top-1 tokens. Source: docs/method.md §5.2."""

COPY_THRESHOLDS = (0.70, 0.80, 0.90, 0.95)
"""Probabilities of the threshold sweep of copy-collapse. Source: docs/method.md §5.2."""


class TopToken(NamedTuple):
    """A token and its probability."""

    id: int
    token: str
    p: float


class PositionRecord(NamedTuple):
    """What one lens reads at one row and one position of a prompt."""

    prompt_id: str
    prompt_variant: str
    lens: str
    fact: str
    layer: int
    pos: int
    token_id: int
    token: str
    entropy_bits: float
    kl_to_final_bits: float
    kl_from_final_bits: float
    top: tuple[TopToken, ...]
    rest_mass: float


class NextTokenRecord(NamedTuple):
    """What one lens reads at one row about the token after the prompt. Source: docs/method.md §5.1, §5.2.

    Attributes:
        layer: Row 0 … n.
        pos: The prompt's last position; `token_id` and `token` stand there.
        teacher_entropy_bits: Entropy of the model's final distribution.
        top: The `TOP_K` likeliest tokens; of equal ones the lowest id first.
        rest_mass: Probability of all others.
        p_answer: Probability of the answer's first token; None without a resolved answer, like all answer metrics.
        answer_rank: 1 + the number of tokens with a strictly larger logit; None where logits are not finite.
        is_answer: Whether that rank is 1, which a tie for the first place is, too.
        answer_logit_gap: The answer's logit minus the largest of any other token, nats; 0 where the two are equal.
        answer_nll_bits: −log2 of the probability of the whole answer, token by token.
        control_margin: P(answer) − P(contrast); None but on control prompts.
        cos_to_final: Cosine of mean-centred logits with the model's.
        copy_collapse: Top-1 copies the prompt with p > 0.95 and a margin above 0.10, or what the sweep was told.
        copy_soft: The same at p > 0.33 over the last k rows, for k in `SOFT_WINDOWS`.
        copy_at: The same as `copy_collapse` at each of `COPY_THRESHOLDS`.
        identity_row: Row 0 of a model with tied embeddings; its copies are flagged here and never counted.
        entropy_collapse: Entropy of at most one bit.
    """

    prompt_id: str
    prompt_variant: str
    lens: str
    fact: str
    layer: int
    pos: int
    token_id: int
    token: str
    entropy_bits: float
    teacher_entropy_bits: float
    top: tuple[TopToken, ...]
    rest_mass: float
    p_top1: float
    p_top5: float
    p_answer: float | None
    answer_rank: int | None
    is_answer: bool | None
    answer_logit_gap: float | None
    answer_nll_bits: float | None
    kl_to_final_bits: float
    kl_from_final_bits: float
    cos_to_final: float
    control_margin: float | None
    copy_collapse: bool
    copy_soft: tuple[bool, ...]
    copy_at: tuple[bool, ...]
    identity_row: bool
    entropy_collapse: bool


class PairRow(NamedTuple):
    """How two ways to decode the same row differ after a prompt. Source: docs/method.md §5.4, §5.6.

    Attributes:
        layer: Row 0 … n.
        kl_bits: KL(P_a ‖ P_b).
        top1_agree: Both put the same token first.
        top10_jaccard: Shared tokens among the first ten of each, over all of them.
        answer_rank_a: Rank of the answer under the first; None without a resolved answer.
        answer_rank_b: The same under the second.
    """

    layer: int
    kl_bits: float
    top1_agree: bool
    top10_jaccard: float
    answer_rank_a: int | None
    answer_rank_b: int | None


class LastRowCheck(NamedTuple):
    """The lens's last row against the model's own output after a prompt. Source: docs/method.md §5.5."""

    kl_to_final_bits: float
    top1_agree: bool
    temp_est: float
    kl_after_temp_bits: float


class NonFinite(NamedTuple):
    """A place whose logits are not all finite."""

    lens: str
    layer: int
    pos: int


class ContributionRecord(NamedTuple):
    """What one component contributes to a logit after a prompt, the final norm's scale frozen.

    Attributes:
        component: `embedding` (row 0), `attn_1`, `mlp_1` … `mlp_n`, `rounding` (what the model's number format loses in
            adding them), `norm_bias`, `projection_bias`, `head_bias` where there are such, and `total`, their sum.
        kind: `embedding`, `attention`, `mlp`, `rounding`, `bias` or `total`.
        layer: Block of an attention or MLP, which adds to the row of that number; None for the others.
        token_id: The token whose logit it is: the answer's first or, without a resolved answer, the model's own first.
        contribution_nats: To the logit, before any soft-cap.
        contrast_id: On control prompts, the contrast's first token; else None.
        margin_contribution_nats: To the logit minus that of the contrast; None off control prompts.
    """

    prompt_id: str
    prompt_variant: str
    component: str
    kind: str
    layer: int | None
    token_id: int
    token: str
    contribution_nats: float
    contrast_id: int | None
    contrast: str | None
    margin_contribution_nats: float | None


class LogitAttribution(NamedTuple):
    """The components of a logit after a prompt, beside the model's own logit.

    Attributes:
        contributions: A record per component; the total is the last.
        norm_scale: What the final norm multiplies the last row by before γ.
        model_logit_nats: The logit as the model's own modules compute it, before any soft-cap.
        model_margin_nats: That logit minus the contrast's; None off control prompts.
        capped_logit_nats: The model's logit after the soft-cap; None where the model has none.
    """

    contributions: tuple[ContributionRecord, ...]
    norm_scale: float
    model_logit_nats: float
    model_margin_nats: float | None
    capped_logit_nats: float | None

    @property
    def total(self) -> ContributionRecord:
        """What all components add up to."""
        return self.contributions[-1]

    @property
    def error_nats(self) -> float:
        """The total minus the model's own logit."""
        return self.total.contribution_nats - self.model_logit_nats


class PromptRecords(NamedTuple):
    """All that was read of one prompt.

    Attributes:
        prompt: What was asked.
        gold: Where the answer stands in the vocabulary.
        contrast: The same for the contrast.
        ids: The prompt's tokens, the tokenizer's own special ones included.
        tokens: The same as strings.
        positions: By lens, a record for every row and position, row by row.
        next_token: By lens, a record for every row 0 … n.
        norm_to_raw: The norm lens (a) against the unembedding alone (b), for every row.
        final_to_next: The final norm (a) against the norm that reads the row next (b); None where there is none.
        last_row: The last row against the model's own output.
        nonfinite: Where logits are not finite, by lens, row and position.
        attribution: Direct attribution of the answer's logit; None where it was not asked for or could not be done.
        not_attributed: Why it could not be done, in one sentence, else None.
        left_out: The tokenizer's own special tokens that were not added, as the prompt begins with them.
    """

    prompt: Prompt
    gold: AnswerTokens
    contrast: AnswerTokens
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    positions: dict[str, list[PositionRecord]]
    next_token: dict[str, list[NextTokenRecord]]
    norm_to_raw: tuple[PairRow, ...]
    final_to_next: tuple[PairRow, ...] | None
    last_row: LastRowCheck
    nonfinite: tuple[NonFinite, ...]
    attribution: LogitAttribution | None = None
    not_attributed: str | None = None
    left_out: tuple[str, ...] = ()
