"""What a sweep's JSON document consists of, named as in the file; `output.schema.json` says the same to a machine."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from logos_pl.artifacts.provenance_schema import Environment

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ModelIdentity:
    """Which model; commits are None where it failed before they were known.

    Attributes:
        model_id: Hub id or folder name, never a path of this machine.
        clean_model_name: The id's last part, as in the file names.
        model_commit: Commit on the Hub, or `sha256:…` over a folder's files.
        tokenizer_commit: The same for the tokenizer.
    """

    model_id: str
    clean_model_name: str
    model_commit: str | None
    tokenizer_commit: str | None


@dataclass(frozen=True)
class Files:
    """Names of the files beside the document.

    Attributes:
        records: By lens, the CSV of every row and position.
        next_token: By lens, the CSV of every row after the prompt.
        decomposition: The CSV of the logits' components, or None.
        plots: Pictures.
        page: The page that shows it all, or None.
        report: The evaluation in words, or None.
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
    """What the caller knows of a run; None where it ended before that was known.

    Attributes:
        started: When, with a time zone.
        finished: The same.
        project_version: Version of logos-pl.
        git_sha: Commit of the checkout it ran from, or None.
        device: Kind of device the model ran on.
        dtype: Number format it ran in.
        decoding_norm: `final` or `next`.
        environment: What it ran on.
        unembed_dtype: Number format of the unembedding in the lenses.
        copy_threshold: Probability that makes a copy, of `copy_collapse`.
        copy_margin: What it has to exceed the second by, of every copy flag.
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
    """How it was read: `RunFacts`, what was counted, and the lens that summaries go by (docs/method.md §6)."""

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
    """What the model is made of.

    Attributes:
        architecture: Its class in transformers.
        num_parameters: Numbers in its checkpoint.
        num_blocks: Transformer blocks, n: rows are 0 … n.
        d_model: Width of the residual stream.
        vocab_size: Logits per position.
        context_length: Longest text it was made for, tokens; None where it has no limit.
        tied_embeddings: The unembedding is the embedding.
        final_norm: Kind of norm in front of the unembedding.
        softcap: Bound of the logits, or None.
        logit_scale: What logits are multiplied by.
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
    """The document, key by key; lists follow the order in which the prompts were asked. Source: docs/method.md §5.7.

    Attributes:
        lens_sections: What it says of each kind of lens but the norm lens, by the section's key; in the file these
            sections stand beside the others.
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
