"""Builds the JSON document of a model's sweep, one prompt at a time.

Its schema is `output.schema.json` in this folder. Memory grows with prompts, tokens and milestones, but not with
rows × positions. Source: docs/method.md §5.7.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from logos_pl.artifacts.transfer import Transfer
from logos_pl.errors import InputError
from logos_pl.kinds.registry import LensKind, compared, plain_origin
from logos_pl.sweeps.document_prompt import (
    RawLens,
    attributed_logit,
    control_prompt,
    diagnosis,
    final_prediction,
    gold_answer,
    prompt_entry,
)
from logos_pl.sweeps.document_schema import (
    NO_FILES,
    SCHEMA_VERSION,
    Files,
    ModelIdentity,
    ModelStats,
    Output,
    Run,
    RunFacts,
)
from logos_pl.sweeps.document_summaries import (
    PackedValues,
    PromptSummary,
    SweptPrompts,
    ablation_summary,
    control_summary,
    gain_summaries,
    prompt_summary,
)
from logos_pl.sweeps.milestones import milestones
from logos_pl.sweeps.records import PromptRecords

ABSOLUTE_PATH = re.compile(r"""(?<![^\s'"`=(,;:\[<>])(?:~?/(?=[^\s/])|[A-Za-z]:[\\/]|\\\\|file:/)[^\s'"`,;)\]>]*""")
"""An absolute local path, also inside a sentence, but not `and/or`, `org/name` or `https://`."""

SAID_BY_THE_RUN = ("reason", "model", "run", "model_stats")
"""Sections that must not contain local paths, in addition to those of lenses. The others quote prompts and tokens,
which may look like paths."""


class OutputBuilder:
    """Builds the document of a sweep, one prompt at a time.

    Args:
        raw_lens: Rows at which norm lens and raw lens are listed side by side: `sample`, four of them, or `full`.
    """

    def __init__(self, raw_lens: RawLens = "sample") -> None:
        self._raw_lens: RawLens = raw_lens
        self._prompts = PackedValues()
        self._answers = PackedValues()
        self._diagnostics = PackedValues()
        self._final = PackedValues()
        self._controls = PackedValues()
        self._attributed = PackedValues()
        self._summaries: dict[tuple[str, str], PromptSummary] = {}

    def add(self, record: PromptRecords) -> None:
        """Add a prompt; the record itself is not stored.

        Raises:
            InputError: The prompt and variant were added before.
        """
        key = (record.prompt.prompt_id, record.prompt.variant)
        if key in self._summaries:
            raise InputError(f"The prompt {key[0]} ({key[1]}) appears twice: give every prompt its own id.")
        reached = {lens: milestones(rows) for lens, rows in record.next_token.items()}
        self._summaries[key] = prompt_summary(record, reached)
        self._prompts.append(prompt_entry(record))
        self._answers.append(gold_answer(record))
        self._diagnostics.append(diagnosis(record, reached, self._raw_lens))
        self._final.append(final_prediction(record))
        if record.prompt.contrast is not None:
            self._controls.append(control_prompt(record))
        if record.attribution is not None:
            self._attributed.append(attributed_logit(record, record.attribution))

    def swept(self) -> SweptPrompts:
        """Contents of the document about the prompts so far, for a report."""
        return SweptPrompts(
            self._prompts, self._answers, self._diagnostics, self._final, list(self._summaries.values())
        )

    def finish(
        self,
        model: ModelIdentity,
        run: RunFacts,
        files: Files,
        stats: ModelStats,
        origins: Mapping[str, Any],
        transfers: Mapping[str, Transfer] | None = None,
    ) -> Output:
        """Return the document of a completed sweep.

        Args:
            model: Identity of the model.
            run: Facts about the run.
            files: Files in the same folder.
            stats: Sizes and properties of the model.
            origins: Origin by lens, as described by its kind; only lenses with a known origin.
            transfers: Lenses that were fitted on another model, by name.
        """
        prompts = list(self._summaries.values())
        return Output(
            schema_version=SCHEMA_VERSION,
            status="ok",
            reason=None,
            model=model,
            run=_run(run, self.swept().lenses, preferred_lens(origins), len(prompts), files),
            model_stats=stats,
            prompts=list(self._prompts),
            gold_answer=list(self._answers),
            diagnostics=list(self._diagnostics),
            final_prediction=list(self._final),
            ablation_summary=ablation_summary(prompts),
            control_prompt=list(self._controls),
            control_summary=control_summary(prompts),
            decomposition=list(self._attributed),
            lens_sections={
                kind.section.key: _with_transfer(
                    _lens_section(kind, origins.get(kind.name), prompts, stats.num_blocks),
                    (transfers or {}).get(kind.name),
                )
                for kind in compared()
            },
        )


def skipped_output(model: ModelIdentity, run: RunFacts, reason: str) -> Output:
    """Return the document of a model that was skipped.

    Args:
        model: Identity of the model.
        run: Facts about the run, as far as known.
        reason: Reason in one sentence; local paths are shortened to their last part.
    """
    return _without_results("skipped", model, run, reason)


def failed_output(model: ModelIdentity, run: RunFacts, reason: str) -> Output:
    """Return the document of a sweep that failed.

    Args:
        model: Identity of the model.
        run: Facts about the run, as far as known.
        reason: Reason in one sentence; local paths are shortened to their last part.
    """
    return _without_results("failed", model, run, reason)


def to_json(output: Output) -> str:
    """Serialise the document as ASCII text with a final newline; non-finite numbers become null.

    Raises:
        InputError: It contains a local path.
    """
    plain = _finite(dataclasses.asdict(output))
    of_lenses = plain.pop("lens_sections")
    if plain["model"]["loaded_as"] is None:
        del plain["model"]["loaded_as"]
    plain |= of_lenses
    for where, text in _texts({section: plain[section] for section in (*SAID_BY_THE_RUN, *of_lenses)}, ""):
        if ABSOLUTE_PATH.search(text):
            raise InputError(f"{where} would contain a local path, {text!r}: give a name or a relative path.")
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def _without_results(status: Literal["skipped", "failed"], model: ModelIdentity, run: RunFacts, reason: str) -> Output:
    return Output(
        schema_version=SCHEMA_VERSION,
        status=status,
        # System messages contain full paths, which must not prevent the document from being written.
        reason=ABSOLUTE_PATH.sub(lambda path: "…/" + re.split(r"[\\/]", path[0].rstrip("\\/"))[-1], reason),
        model=model,
        run=_run(run, [], None, 0, NO_FILES),
        model_stats=None,
        prompts=[],
        gold_answer=[],
        diagnostics=[],
        final_prediction=[],
        ablation_summary=[],
        control_prompt=[],
        control_summary=[],
        decomposition=[],
        lens_sections={kind.section.key: None for kind in compared()},
    )


def preferred_lens(origins: Mapping[str, Any]) -> str:
    """Lens used by summaries: one that has passed all gates, or the norm lens. Source: docs/method.md §6.

    Args:
        origins: See `OutputBuilder.finish`.
    """
    accepted = (kind.name for kind in compared() if kind.accepted is not None and kind.accepted(origins.get(kind.name)))
    return next(accepted, "norm")


def _run(facts: RunFacts, lenses: list[str], preferred: str | None, num_prompts: int, files: Files) -> Run:
    return Run(
        started_utc=_utc(facts.started),
        finished_utc=_utc(facts.finished),
        seconds=(facts.finished - facts.started).total_seconds(),
        project_version=facts.project_version,
        git_sha=facts.git_sha,
        device=facts.device,
        dtype=facts.dtype,
        unembed_dtype=facts.unembed_dtype,
        decoding_norm=facts.decoding_norm,
        copy_threshold=facts.copy_threshold,
        copy_margin=facts.copy_margin,
        lenses=lenses,
        preferred_lens=preferred,
        num_prompts=num_prompts,
        environment=facts.environment,
        files=files,
    )


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _lens_section(kind: LensKind, origin: Any, prompts: list[PromptSummary], num_blocks: int) -> dict[str, Any] | None:
    """Section of a lens: origin, gains over the norm lens and conclusion; None if the lens was not used."""
    if origin is None and not any(kind.name in prompt.milestones for prompt in prompts):
        return None
    summaries = gain_summaries(prompts, kind.name, num_blocks)
    section = kind.section
    return {section.origin_key: plain_origin(origin), "summaries": summaries, **section.conclude(summaries)}


def _with_transfer(section: dict[str, Any] | None, transfer: Transfer | None) -> dict[str, Any] | None:
    """Section of a lens; if it was fitted on another model, with how far that is from this one."""
    return section if section is None or transfer is None else section | {"transfer": transfer.to_plain()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield where or "a key", key
            yield from _texts(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, f"{where}[{i}]")
    elif isinstance(value, str):
        yield where, value
