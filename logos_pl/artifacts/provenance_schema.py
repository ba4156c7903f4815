"""The groups of a lens's provenance, named as in ``provenance.json``."""

from dataclasses import dataclass
from typing import Literal

FINGERPRINT_TOKENS = 128
"""Length of the token sequence that fingerprints are of; less in a model of a shorter context."""


@dataclass(frozen=True)
class Dataset:
    """The text the lens was trained on.

    Attributes:
        repo_id: Hub id, or the name of a local folder or file.
        name: Configuration of the data set, or None.
        split: Its split.
        revision: Tag or commit, or None for local files.
        sample_description: One sentence for people: which part, in which order.
        content_hash: sha256 over the ordered (shard, row) cursors and text digests consumed.
        documents: Documents consumed.
        held_out_frac: Share of the documents, by a hash of their text, held out for validation, and again for test.
    """

    repo_id: str
    name: str | None
    split: str
    revision: str | None
    sample_description: str
    content_hash: str
    documents: int
    held_out_frac: float


@dataclass(frozen=True)
class Budget:
    """How much text was seen.

    Attributes:
        tokens: Tokens seen, counted.
        tokens_asked: Tokens asked for; early stopping sees fewer, a whole last step a few more.
        seq_len: Tokens per sequence.
        positions_per_seq: Positions trained on per sequence.
        position_range: The part of the context they are drawn from, as fractions.
    """

    tokens: int
    tokens_asked: int
    seq_len: int
    positions_per_seq: int
    position_range: tuple[float, float]


@dataclass(frozen=True)
class BatchSizes:
    """What an optimiser step was made of.

    Attributes:
        micro_batch_seqs: Sequences per forward pass and process.
        grad_accum: Forward passes per step and process.
        effective_batch_seqs: Sequences per step over all processes, counted (the most of any step).
        fewest_batch_seqs: Sequences of the smallest step; less than the above where the text ended.
        world_size: Processes that ended the fit; one that was resumed may have had another number before, and another
            number of forward passes with it.
    """

    micro_batch_seqs: int
    grad_accum: int
    effective_batch_seqs: int
    fewest_batch_seqs: int
    world_size: int


@dataclass(frozen=True)
class Capacity:
    """The size of the lens.

    Attributes:
        rank_k: Rank of each translator; 0: bias and temperature only.
        rows: Rows with a translator: 1 … rows.
        parameters: Numbers in ``weights.pt``.
    """

    rank_k: int
    rows: int
    parameters: int


@dataclass(frozen=True)
class BiasOnly:
    """The lens of bias and temperature alone that was fitted beside the tuned one, on the same rows and text.

    Attributes:
        file: Its weights, beside ``provenance.json``: rank 0, the same rows.
        parameters: Numbers in it.
        tau: τ of rows 1, 2, …
    """

    file: str
    parameters: int
    tau: list[float]


@dataclass(frozen=True)
class Optim:
    """How it was optimised.

    Attributes:
        lr: Peak learning rate.
        betas: Decay rates of AdamW's moments.
        weight_decay: Decoupled weight decay.
        schedule: The learning rate's course, in words.
        total_steps: Steps the budget buys.
        warmup_steps: Steps of linear warm-up among them.
        steps_done: Optimiser steps taken, counted.
        exported_step: The step after which these weights, or their average up to it, were the best validation's.
        stopped_early: Whether the run was ended before its last step: by early stopping, or a callback of the user's.
    """

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    schedule: str
    total_steps: int
    warmup_steps: int
    steps_done: int
    exported_step: int
    stopped_early: bool


@dataclass(frozen=True)
class Init:
    """How the translators started.

    Attributes:
        kind: ``closed_form``: least squares on the run's opening text; ``random``: U drawn, V and c zero.
        sequences: Sequences of the opening text that were read; 0 for a random start.
        tokens: Tokens in them, counted; they are trained on as well.
        positions: Positions in the moments.
        shrinkage: Ridge of each row, as a share of its mean variance, chosen on sequences set aside.
    """

    kind: Literal["closed_form", "random"]
    sequences: int
    tokens: int
    positions: int
    shrinkage: list[float]


@dataclass(frozen=True)
class Temperature:
    """Whether temperatures were learned, and their values.

    Attributes:
        enabled: Learned, or all left at 1.
        tau: τ of rows 1, 2, …
    """

    enabled: bool
    tau: list[float]


@dataclass(frozen=True)
class Regularizers:
    """Weights of the regularisers.

    Attributes:
        l2: Of ‖U‖² + ‖V‖² + ‖c‖².
        smoothness: Of the squared differences of U and V between neighbouring rows.
    """

    l2: float
    smoothness: float


@dataclass(frozen=True)
class Preconditioner:
    """The basis that U and V were trained in.

    Attributes:
        type: ``whitened``: by the covariance of x on the one side, by the Fisher information of the final distribution
            on the other.
        path: Always None: no file is needed, as ``weights.pt`` has U and V in the plain basis.
        damping: Share of the mean variance that was added in every direction.
    """

    type: str
    path: None
    damping: float


@dataclass(frozen=True)
class Precision:
    """Number formats.

    Attributes:
        model: Of the frozen model.
        unembed: Of the unembedding in the lens.
        loss: Of the softmax and the loss.
    """

    model: str
    unembed: str
    loss: str


@dataclass(frozen=True)
class Environment:
    """What it ran on: versions of the libraries and the device in words."""

    torch: str
    transformers: str
    lightning: str
    device: str


@dataclass(frozen=True)
class MeanDivergence:
    """One lens at one row on held-out text, mean over positions.

    Attributes:
        kl_to_final_bits: KL(P_row ‖ P_final).
        kl_from_final_bits: KL(P_final ‖ P_row), what the lens is trained on.
        top1_agree_frac: Share of positions where both have the same first token.
    """

    kl_to_final_bits: float
    kl_from_final_bits: float
    top1_agree_frac: float


@dataclass(frozen=True)
class PercentileKl:
    """Norm lens and tuned lens at one depth percentile."""

    row: int
    norm: MeanDivergence
    tuned: MeanDivergence


@dataclass(frozen=True)
class Fingerprint:
    """What identifies the model by its numbers, which name and commit do not fix.

    Attributes:
        head_sha256: Hash of final norm, unembedding and bias.
        num_tokens: Length of the fixed token sequence.
        dtype: Number format the model ran in.
        device: Kind of device it ran on.
        residual_norms: L2 norm per row 0 … n (outer) at evenly spaced positions (inner).
        top_ids: The ten likeliest next tokens after the sequence.
        top_logits: Their logits.
        rotary: Frequencies of each rotary embedding, then its attention scaling; empty where there is none.
    """

    head_sha256: str
    num_tokens: int
    dtype: str
    device: str
    residual_norms: list[list[float]]
    top_ids: list[int]
    top_logits: list[float]
    rotary: list[float]


@dataclass(frozen=True)
class PrismKl:
    """Norm lens and Prism lens at one depth percentile."""

    row: int
    norm: MeanDivergence
    prism: MeanDivergence


@dataclass(frozen=True)
class PrismCandidate:
    """A way to fit a prism that was tried.

    Attributes:
        whiten: Kind of whitening, `diagonal` or `full`.
        depths: Depths that were pooled, in percent; 0 is the embedding row.
        rows: The rows at these depths.
        kl_from_final_bits: KL(P_final ‖ P_row) on held-out text, by depth percentile (``"25"``, …).
        mean_kl_from_final_bits: Mean over the percentiles: the least decides.
    """

    whiten: str
    depths: list[int]
    rows: list[int]
    kl_from_final_bits: dict[str, float]
    mean_kl_from_final_bits: float
