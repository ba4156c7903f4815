"""Typed records of a sweep, from which all files, plots and reports are made."""

from typing import NamedTuple

from logos_pl.data.prompt_types import AnswerTokens, Place, Prompt

TOP_K = 10
"""Number of tokens listed for every distribution, likeliest first."""

SOFT_WINDOWS = (1, 2, 3)
"""Window sizes in rows of soft copy collapse. Source: docs/method.md §5.2."""

COPY_THRESHOLDS = (0.70, 0.80, 0.90, 0.95)
"""Probability thresholds of the copy-collapse sweep. Source: docs/method.md §5.2."""


class TopToken(NamedTuple):
    """A token and its probability."""

    id: int
    token: str
    p: float


class PositionRecord(NamedTuple):
    """Reading of a lens at one row and one position of a prompt."""

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
    """Reading of a lens at one row for the token after the prompt. Source: docs/method.md §5.1, §5.2.

    Attributes:
        layer: Row 0 … n.
        pos: Last position of the prompt, which has `token_id` and `token`.
        teacher_entropy_bits: Entropy of the model's final distribution.
        top: The `TOP_K` likeliest tokens; ties are ordered by id.
        rest_mass: Probability of all other tokens.
        p_answer: Probability of the answer's first token; None without a resolved answer, like all answer metrics.
        answer_rank: 1 + the number of tokens with a strictly larger logit; None if logits are not finite.
        is_answer: Whether the rank is 1, including ties.
        answer_logit_gap: The answer's logit minus the largest other logit, in nats; 0 for a tie.
        answer_nll_bits: −log2 of the probability of the whole answer, token by token.
        control_margin: P(answer) − P(contrast); None except for control prompts.
        cos_to_final: Cosine of mean-centred logits with those of the model.
        copy_collapse: Whether the top-1 token copies the prompt with p and margin above the sweep's thresholds.
        copy_soft: Likewise at p > 0.33 over the last k rows, for k in `SOFT_WINDOWS`.
        copy_at: Like `copy_collapse` at each of `COPY_THRESHOLDS`.
        identity_row: Whether this is row 0 of a model with tied embeddings, whose copies are not counted.
        entropy_collapse: Whether the entropy is at most one bit.
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
    """Comparison of two decodings, a and b, of a row after a prompt. Source: docs/method.md §5.4, §5.6.

    Attributes:
        layer: Row 0 … n.
        kl_bits: KL(P_a ‖ P_b).
        top1_agree: Whether the top-1 tokens agree.
        top10_jaccard: Jaccard index of the top-10 tokens.
        answer_rank_a: Rank of the answer in a; None without a resolved answer.
        answer_rank_b: Rank of the answer in b.
    """

    layer: int
    kl_bits: float
    top1_agree: bool
    top10_jaccard: float
    answer_rank_a: int | None
    answer_rank_b: int | None


class LastRowCheck(NamedTuple):
    """Comparison of the last row with the model's output after a prompt. Source: docs/method.md §5.5."""

    kl_to_final_bits: float
    top1_agree: bool
    temp_est: float
    kl_after_temp_bits: float


class NonFinite(NamedTuple):
    """A row and position with non-finite logits."""

    lens: str
    layer: int
    pos: int


class ContributionRecord(NamedTuple):
    """Contribution of a component to a logit after a prompt, with the scale of the final norm frozen.

    Attributes:
        component: `embedding` (row 0), `attn_1`, `mlp_1` … `mlp_n`, `rounding` (error of adding them in the model's
            dtype), `norm_bias`, `projection_bias`, `head_bias` if present, and `total`, their sum.
        kind: `embedding`, `attention`, `mlp`, `rounding`, `bias` or `total`.
        layer: Block of an attention or MLP, which adds to the row of that number; None for the others.
        token_id: Token of the logit: the first of the answer or, without a resolved answer, the model's top-1 token.
        contribution_nats: Contribution to the logit, before any soft-cap.
        contrast_id: First token of the contrast for control prompts; else None.
        margin_contribution_nats: Contribution to the logit minus that of the contrast; None except for control prompts.
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
    """Components of a logit after a prompt, and the model's logit.

    Attributes:
        contributions: One record per component; the total is the last.
        norm_scale: Scale that the final norm applies to the last row before γ.
        model_logit_nats: Logit computed by the model's modules, before any soft-cap.
        model_margin_nats: This logit minus that of the contrast; None except for control prompts.
        capped_logit_nats: Logit after the soft-cap; None if the model has none.
    """

    contributions: tuple[ContributionRecord, ...]
    norm_scale: float
    model_logit_nats: float
    model_margin_nats: float | None
    capped_logit_nats: float | None

    @property
    def total(self) -> ContributionRecord:
        """Sum of all components."""
        return self.contributions[-1]

    @property
    def error_nats(self) -> float:
        """The total minus the model's logit, in nats."""
        return self.total.contribution_nats - self.model_logit_nats


class FollowedTokens(NamedTuple):
    """Tokens of a prompt whose rank and probability are known at every row and position, listed or not.

    Attributes:
        ids: Token ids: first of the answer, first of the contrast, and the model's likeliest after the prompt.
        tokens: The tokens as strings.
        ranks: By lens, for every row that it reads and every position, row by row: rank of each token; None if logits
            are not finite.
        p: Likewise their probabilities.
    """

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    ranks: dict[str, list[tuple[int | None, ...]]]
    p: dict[str, list[tuple[float, ...]]]


class PromptRecords(NamedTuple):
    """All records of one prompt.

    Attributes:
        prompt: The prompt.
        answer_tokens: Tokens of the answer.
        contrast: Tokens of the contrast.
        ids: Token ids of the prompt, including special tokens.
        tokens: The tokens as strings.
        positions: Records of every row that the lens reads and every position, row by row, by lens.
        next_token: Records of the rows that the lens reads, 0 … n for most, by lens.
        norm_to_raw: Comparison of norm lens (a) and raw lens (b), for every row.
        final_to_next: Comparison of final norm (a) and norm of the next block (b); None if there is none.
        last_row: Comparison of the last row with the model's output.
        nonfinite: Non-finite logits by lens, row and position.
        attribution: Direct attribution of the answer's logit; None if not requested or not possible.
        not_attributed: Reason why it was not possible, else None.
        left_out: Special tokens that were not added, as the prompt already begins with them.
        added: Special tokens that were added in front.
        places: Named parts of the prompt.
        followed: Tokens followed through all rows and positions, for the page.
    """

    prompt: Prompt
    answer_tokens: AnswerTokens
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
    added: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    followed: FollowedTokens = FollowedTokens((), (), {}, {})
