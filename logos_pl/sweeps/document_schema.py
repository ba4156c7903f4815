"""Types of a sweep's JSON document, with the names of the file; `output.schema.json` is the matching JSON schema."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from logos_pl.artifacts.provenance_schema import Environment
from logos_pl.lm.loaded_as import LoadedAs

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ModelIdentity:
    """Identity of a model; commits are None if the sweep failed before they were known.

    Attributes:
        model_id: Hub id or folder name, never a local path.
        clean_model_name: Last part of the id, as in file names; a revision that the user named as `id@revision` is part
            of it.
        model_commit: Commit on the Hub, or `sha256:…` over a folder's files.
        tokenizer_commit: Likewise for the tokenizer.
        loaded_as: What was loaded of a quantised or adapted model; left out for plain weights.
    """

    model_id: str
    clean_model_name: str
    model_commit: str | None
    tokenizer_commit: str | None
    loaded_as: LoadedAs | None = None


@dataclass(frozen=True)
class Files:
    """Names of the files of a sweep.

    Attributes:
        records: CSV of every row and position, by lens.
        next_token: CSV of every row at the token after the prompt, by lens.
        decomposition: CSV of the logits' components, or None.
        plots: Plots.
        page: HTML page, or None.
        report: Markdown report, or None.
    """

    records: dict[str, str]
    next_token: dict[str, str]
    decomposition: str | None
    plots: list[str]
    page: str | None
    report: str | None


NO_FILES = Files(records={}, next_token={}, decomposition=None, plots=[], page=None, report=None)


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run; None if it ended before they were known.

    Attributes:
        started: Start time, with time zone.
        finished: End time, with time zone.
        project_version: Version of logos-pl.
        git_sha: Git commit of the checkout, or None.
        device: Kind of device.
        dtype: Dtype of the model.
        decoding_norm: `final` or `next`.
        environment: Software and hardware.
        unembed_dtype: Dtype of the unembedding in the lenses.
        copy_threshold: Top-1 probability threshold of `copy_collapse`.
        copy_margin: Margin over the top-2 probability for every copy flag.
    """

    started: datetime
    finished: datetime
    project_version: str
    git_sha: str | None
    device: str | None
    dtype: str | None
    decoding_norm: str | None
    environment: Environment | None
    unembed_dtype: str | None = None
    copy_threshold: float | None = None
    copy_margin: float | None = None


@dataclass(frozen=True)
class Run:
    """Section `run`: `RunFacts`, counts and the preferred lens (docs/method.md §6)."""

    started_utc: str
    finished_utc: str
    seconds: float
    project_version: str
    git_sha: str | None
    device: str | None
    dtype: str | None
    unembed_dtype: str | None
    decoding_norm: str | None
    copy_threshold: float | None
    copy_margin: float | None
    lenses: list[str]
    preferred_lens: str | None
    num_prompts: int
    environment: Environment | None
    files: Files


@dataclass(frozen=True)
class ModelStats:
    """Sizes and properties of the model.

    Attributes:
        architecture: Model class in transformers.
        num_parameters: Number of parameters in the checkpoint.
        num_blocks: Number n of transformer blocks; rows are 0 … n.
        d_model: Width of the residual stream.
        vocab_size: Number of logits per position.
        context_length: Context length in tokens; None if unlimited.
        tied_embeddings: Whether the unembedding is the embedding.
        final_norm: Kind of norm before the unembedding.
        softcap: Soft-cap of the logits, or None.
        logit_scale: Factor applied to the logits.
        head_sha256: Hash of final norm, unembedding and bias.
    """

    architecture: str
    num_parameters: int
    num_blocks: int
    d_model: int
    vocab_size: int
    context_length: int | None
    tied_embeddings: bool
    final_norm: str
    softcap: float | None
    logit_scale: float
    head_sha256: str


@dataclass(frozen=True)
class Output:
    """The document by key; lists are in the order of the prompts. Source: docs/method.md §5.7.

    Attributes:
        lens_sections: Sections of the lens kinds except the norm lens, by key; in the file they are top-level sections.
    """

    schema_version: int
    status: Literal["ok", "skipped", "failed"]
    reason: str | None
    model: ModelIdentity
    run: Run
    model_stats: ModelStats | None
    prompts: list[dict[str, Any]]
    gold_answer: list[dict[str, Any]]
    diagnostics: list[dict[str, Any]]
    final_prediction: list[dict[str, Any]]
    ablation_summary: list[dict[str, Any]]
    control_prompt: list[dict[str, Any]]
    control_summary: list[dict[str, Any]]
    decomposition: list[dict[str, Any]]
    lens_sections: dict[str, dict[str, Any] | None]
