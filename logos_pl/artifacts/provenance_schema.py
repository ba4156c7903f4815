"""The groups of a lens's provenance, named as in ``provenance.json``."""

from dataclasses import dataclass, field
from typing import Literal

from logos_pl.artifacts.json_codec import LEFT_OUT
from logos_pl.lm.loaded_as import LoadedAs

FINGERPRINT_TOKENS = 128
"""Length of the token sequence of a fingerprint; shorter for a model with a shorter context."""


@dataclass(frozen=True)
class Dataset:
    """The text the lens was trained on.

    Attributes:
        repo_id: Hub id, or the name of a local folder or file.
        name: Configuration of the data set, or None.
        split: Its split.
        revision: Tag or commit, or None for local files.
        sample_description: One sentence: which part was read, in which order.
        content_hash: sha256 over the ordered (shard, row) cursors and text digests consumed.
        documents: Documents consumed.
        held_out_frac: Share of the documents held out for validation, and for test, by a hash of their text.
        format: Format of its rows: ``text``, or ``chat`` for conversations rendered by the model's chat template.
        special_tokens: ``auto``: texts got the special tokens that the tokenizer adds, once; ``none``: they got none.
        added_tokens: Those special tokens, as strings; a conversation has only the template's.
    """

    repo_id: str
    name: str | None
    split: str
    revision: str | None
    sample_description: str
    content_hash: str
    documents: int
    held_out_frac: float
    format: Literal["text", "chat"]
    special_tokens: Literal["auto", "none"]
    added_tokens: list[str]


@dataclass(frozen=True)
class Budget:
    """How much text the lens was trained on.

    Attributes:
        tokens: Tokens of text trained on, counted once.
        tokens_asked: Tokens requested; early stopping uses fewer, completing the last step a few more.
        tokens_trained: Tokens trained on, counted in every pass over the text.
        passes: Passes over the text that were requested.
        seq_len: Tokens per sequence.
        positions_per_seq: Positions trained on per sequence.
        position_range: Part of the context they are sampled from, as fractions.
    """

    tokens: int
    tokens_asked: int
    tokens_trained: int
    passes: int
    seq_len: int
    positions_per_seq: int
    position_range: tuple[float, float]


@dataclass(frozen=True)
class BatchSizes:
    """Batch sizes of an optimiser step.

    Attributes:
        micro_batch_seqs: Sequences per forward pass and process.
        grad_accum: Forward passes per step and process.
        effective_batch_seqs: Largest number of sequences per step over all processes, counted.
        fewest_batch_seqs: Sequences in the smallest step; smaller if the text ended.
        world_size: Processes at the end of the fit; a resumed fit may have started with another number, and then with
            another `grad_accum`.
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
        rank_k: Rank of each translator; 0 for bias and temperature only.
        rows: Rows with a translator: 1 … rows.
        parameters: Number of values in ``weights.pt``.
    """

    rank_k: int
    rows: int
    parameters: int


@dataclass(frozen=True)
class BiasOnly:
    """The bias-only lens that was fitted together with the tuned lens, on the same rows and text.

    Attributes:
        file: File of its weights, of rank 0 and with the same rows.
        parameters: Number of values in the file.
        tau: τ of rows 1, 2, …
    """

    file: str
    parameters: int
    tau: list[float]


@dataclass(frozen=True)
class Optim:
    """Optimiser settings and progress.

    Attributes:
        lr: Peak learning rate.
        betas: Decay rates of AdamW's moments.
        weight_decay: Decoupled weight decay.
        schedule: Learning-rate schedule, in words.
        total_steps: Steps in the token budget.
        warmup_steps: Number of these with linear warm-up.
        steps_done: Optimiser steps taken, counted.
        exported_step: Step at which the exported weights, or their running average, had the best validation.
        stopped_early: Whether the run ended before its last step, by early stopping or a user's callback.
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
    """Initialisation of the translators.

    Attributes:
        kind: ``closed_form``: least squares on the first part of the text; ``random``: U random, V and c zero.
        sequences: Sequences of that text; 0 for random initialisation.
        tokens: Tokens in them, counted; training uses them, too.
        positions: Positions used to estimate the moments.
        shrinkage: Ridge of each row as a fraction of its mean variance, chosen on held-out sequences.
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
        enabled: Whether they were learned; if not, all are 1.
        tau: τ of rows 1, 2, …
    """

    enabled: bool
    tau: list[float]


@dataclass(frozen=True)
class Regularizers:
    """Weights of the regularisers.

    Attributes:
        l2: Weight of ‖U‖² + ‖V‖² + ‖c‖².
        smoothness: Weight of the squared differences of U and V between neighbouring rows.
    """

    l2: float
    smoothness: float


@dataclass(frozen=True)
class Preconditioner:
    """The basis that U and V were trained in.

    Attributes:
        type: ``whitened``: by the covariance of x on the input side and the Fisher information of the final
            distribution on the output side.
        path: Always None; ``weights.pt`` has U and V in the plain basis, so no file is needed.
        damping: Fraction of the mean variance added in every direction.
    """

    type: str
    path: None
    damping: float


@dataclass(frozen=True)
class Precision:
    """Number formats.

    Attributes:
        model: Format of the frozen model.
        unembed: Format of the unembedding in the lens.
        loss: Format of the softmax and the loss.
    """

    model: str
    unembed: str
    loss: str


@dataclass(frozen=True)
class Environment:
    """Library versions, and a description of the device."""

    torch: str
    transformers: str
    lightning: str
    device: str


@dataclass(frozen=True)
class MeanDivergence:
    """Divergence of one lens at one row on held-out text, mean over positions.

    Attributes:
        kl_to_final_bits: KL(P_row ‖ P_final).
        kl_from_final_bits: KL(P_final ‖ P_row), what the lens is trained on.
        top1_agree_frac: Share of positions with the same top-1 token.
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
    """Outputs that identify the model; name and commit do not determine them.

    Attributes:
        head_sha256: Hash of final norm, unembedding and bias.
        num_tokens: Length of the fixed token sequence.
        dtype: Number format of the model.
        device: Type of device.
        residual_norms: L2 norm per row 0 … n (outer) at evenly spaced positions (inner).
        top_ids: The ten most likely next tokens after the sequence.
        top_logits: Their logits.
        rotary: Frequencies of each rotary embedding, each followed by its attention scaling; empty without one.
        loaded_as: How a quantised or adapted model was loaded; left out for plain weights.
    """

    head_sha256: str
    num_tokens: int
    dtype: str
    device: str
    residual_norms: list[list[float]]
    top_ids: list[int]
    top_logits: list[float]
    rotary: list[float]
    loaded_as: LoadedAs | None = field(default=None, metadata={LEFT_OUT: True})
