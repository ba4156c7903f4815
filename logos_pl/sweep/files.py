"""The files of one model's sweep: CSV and page while it runs; JSON, plots and report when it has ended."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from logos_pl.artifacts.environment import environment, git_sha, project_version
from logos_pl.artifacts.prism import ROTATION_FILE
from logos_pl.artifacts.prism_provenance import PrismProvenance
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.tuned_lens_format import ImportedOrigin
from logos_pl.io.files import replace_file
from logos_pl.kinds.registry import swept
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.sources import clean_name
from logos_pl.modules.tuning import LensTuning
from logos_pl.sweep import plots
from logos_pl.sweep.attribution_plot import contribution_figure
from logos_pl.sweep.copy_collapse import COPY_RULE, CopyRule
from logos_pl.sweep.cross_report import cross_model_report
from logos_pl.sweep.document import OutputBuilder, failed_output, preferred_lens, skipped_output, to_json
from logos_pl.sweep.document_prompt import RawLens
from logos_pl.sweep.document_schema import (
    Environment,
    Files,
    ImportedLensOrigin,
    ModelIdentity,
    ModelStats,
    PrismOrigin,
    RunFacts,
    TunedLensOrigin,
)
from logos_pl.sweep.folder import CROSS_REPORT, SweepFolder
from logos_pl.sweep.milestones import Milestones
from logos_pl.sweep.page import PageWriter
from logos_pl.sweep.record_csv import RecordWriter
from logos_pl.sweep.records import ContributionRecord, NextTokenRecord, PositionRecord, PromptRecords
from logos_pl.sweep.report import evaluation_report
from logos_pl.sweep.report_input import ReportInput
from logos_pl.sweep.token_map import token_map


class SweepFiles:
    """What one model's sweep writes into its folder; `report` is what a comparison of models is made of, at the end.

    Args:
        folder: The folder, which other models may share.
        module: The module that reads, its model and lenses in place.
        provenance: Where the tuned lens comes from; None without an artifact.
        raw_lens: Rows at which the norm lens is set against the bare unembedding in the JSON.
        imported: Where the imported lens comes from; None without one.
        prism: Where the prism comes from; None without one.
        decompose: The answers' logits are taken apart, too.
        copy_rule: What makes a copy.

    Raises:
        OSError: The disk refuses.
    """

    def __init__(
        self,
        folder: SweepFolder,
        module: LensTuning,
        provenance: Provenance | None,
        raw_lens: RawLens,
        imported: ImportedOrigin | None = None,
        prism: PrismProvenance | None = None,
        *,
        decompose: bool = False,
        copy_rule: CopyRule = COPY_RULE,
    ) -> None:
        self.folder = folder.path
        self.name = module.frozen.clean_model_name
        self.lenses = [lens for lens in swept() if lens in module.lenses]
        self.module = module
        self.provenance = provenance
        self.imported = imported
        self.prism = prism
        self.copy_rule = copy_rule
        self.started = datetime.now(UTC)
        self._builder = OutputBuilder(raw_lens)
        self._drawn = plots.PromptSample()
        self._residuals: list[str] = []
        self._largest_error_nats = 0.0
        self._num_decomposed = 0
        self._not_decomposed: list[str] = []
        with ExitStack() as stack:
            self._positions = {
                lens: stack.enter_context(RecordWriter(self._path(f"records{_suffix(lens)}.csv"), PositionRecord))
                for lens in self.lenses
            }
            self._next_token = {
                lens: stack.enter_context(
                    RecordWriter(self._path(f"pure-next-token{_suffix(lens)}.csv"), NextTokenRecord)
                )
                for lens in self.lenses
            }
            self._contributions: RecordWriter[ContributionRecord] | None = None
            if decompose:
                writer = RecordWriter(self._path("decomposition.csv"), ContributionRecord)
                self._contributions = stack.enter_context(writer)
            num_blocks = module.frozen.num_blocks
            page = PageWriter(self._path("page.html"), self.name, self.lenses, num_blocks)
            self._page = stack.enter_context(page)
            self._open_files = stack.pop_all()

    def _path(self, ending: str) -> Path:
        return self.folder / f"output-{self.name}-{ending}"

    def add(self, records: PromptRecords, reached: Mapping[str, Milestones]) -> None:
        """Write one prompt.

        Raises:
            OSError: The disk refuses.
        """
        for lens in self.lenses:
            self._positions[lens].write(records.positions[lens])
            self._next_token[lens].write(records.next_token[lens])
        if self._contributions is not None and records.decomposition is not None:
            self._contributions.write(records.decomposition.contributions)
            self._largest_error_nats = max(self._largest_error_nats, abs(records.decomposition.error_nats))
            self._num_decomposed += 1
        if records.not_decomposed is not None:
            self._not_decomposed.append(records.not_decomposed)
        self._page.add(records, reached)
        self._builder.add(records)
        self._drawn.add(records)

    def add_residuals(self, records: PromptRecords, h: Float[Tensor, "rows pos d_model"]) -> None:
        """Keep a prompt's residual stream.

        Raises:
            OSError: The disk refuses.
        """
        path = self._path(f"residuals-{records.prompt.prompt_id}-{records.prompt.variant}.safetensors")
        replace_file(path, save({"residuals": h.contiguous()}))
        self._residuals.append(path.name)

    def exactness(self) -> str:
        """How near the sums of components come to the model's own logits, and of which prompts there is no sum."""
        sentences = []
        if self._num_decomposed:
            sentences.append(
                "Embedding, attention, MLP and biases add up to the model's own logits within "
                f"{self._largest_error_nats:.1g} nats in {_dtype(self.module.frozen)}."
            )
        if left_out := len(self._not_decomposed):
            of = left_out + self._num_decomposed
            more = "" if left_out == 1 else " The others are in the JSON, under diagnostics."
            sentences.append(
                f"Left out of the decomposition: {left_out} of {of} prompts. {self._not_decomposed[0]}{more}"
            )
        return " ".join(sentences)

    def preference(self) -> str:
        """Which lens to go by, in one sentence, and why; empty without a tuned lens."""
        if "tuned" not in self.lenses:
            return ""
        origin = _origin(self.provenance)
        if origin is None or origin.all_gates_passed is None:
            return "The tuned lens has not been judged (`logos-pl test`): go by the norm lens."
        if not origin.all_gates_passed:
            return "The tuned lens has not passed all gates: go by the norm lens."
        return "The tuned lens has passed all gates: go by it."

    def finish(self) -> list[tuple[str, str]]:
        """Complete all files.

        Returns:
            Name and content of each, for the user.

        Raises:
            OSError: The disk refuses.
        """
        self._open_files.close()
        drawn = self._draw()
        report = self._path("evaluation.md").with_name(f"evaluation-{self.name}.md")
        files = Files(
            records={lens: writer.path.name for lens, writer in self._positions.items()},
            next_token={lens: writer.path.name for lens, writer in self._next_token.items()},
            decomposition=None if self._contributions is None else self._contributions.path.name,
            plots=drawn,
            page=self._page.path.name,
            report=report.name,
        )
        num_blocks = self.module.frozen.num_blocks
        self.report = ReportInput(
            model_id=self.module.frozen.model_id,
            clean_model_name=self.name,
            num_blocks=num_blocks,
            swept=self._builder.swept(),
            files=_by_kind(files, self.name),
            preferred_lens=preferred_lens(_origin(self.provenance)),
        )
        replace_file(report, evaluation_report(self.report).encode())
        output = self._builder.finish(
            _identity(self.module.frozen),
            self._facts(),
            files,
            _stats(self.module),
            _origin(self.provenance),
            None if self.imported is None else ImportedLensOrigin(*self.imported),
            _prism_origin(self.prism),
        )
        replace_file(self._json(), to_json(output).encode())
        return self._contents(files)

    def _json(self) -> Path:
        return self.folder / f"output-{self.name}.json"

    def _draw(self) -> list[str]:
        num_blocks, drawn = self.module.frozen.num_blocks, self._drawn
        figures = {
            "kl": plots.kl_figure(drawn.records, num_blocks, self.name, drawn.num_prompts),
            "cosine": plots.cosine_figure(drawn.records, num_blocks, self.name, drawn.num_prompts),
            "entropy": plots.entropy_figure(drawn.records, num_blocks, self.name, drawn.num_prompts),
            "tokens": token_map(drawn.records[0], self.lenses),
        }
        if drawn.answered:
            figures["rank"] = plots.rank_figure(drawn.answered, num_blocks, self.name, drawn.num_answered)
        if self._contributions is not None:
            decomposed = [record for record in drawn.records if record.decomposition is not None]
            figures["decomposition"] = contribution_figure(decomposed, num_blocks, self.name, self._num_decomposed)
        for what, figure in figures.items():
            plots.save_figure(figure, self._path(f"{what}.png"))
        return [self._path(f"{what}.png").name for what in figures]

    def fail(self, error: BaseException) -> None:
        """Put on record that the sweep ended early; files that are not whole stay as `.partial`.

        Raises:
            OSError: The disk refuses even that.
        """
        try:
            self._open_files.__exit__(type(error), error, error.__traceback__)
        finally:  # closing may fail for the same reason
            self._record_failure(error)

    def _record_failure(self, error: BaseException) -> None:
        sentence = " ".join(str(error).split()) or type(error).__name__
        output = failed_output(_identity(self.module.frozen), self._facts(), sentence)
        replace_file(self._json(), to_json(output).encode())

    def _facts(self) -> RunFacts:
        lm = self.module.frozen
        made_with = environment(lm.device)
        return RunFacts(
            started=self.started,
            finished=datetime.now(UTC),
            project_version=project_version(),
            git_sha=git_sha(),
            device=str(lm.device),
            dtype=_dtype(lm),
            decoding_norm=self.module.decoding_norm,
            environment=Environment(made_with.torch, made_with.transformers, made_with.lightning, made_with.device),
            unembed_dtype=str(self.module.head.unembedding.weight.dtype).removeprefix("torch."),
            copy_threshold=self.copy_rule.threshold,
            copy_margin=self.copy_rule.margin,
        )

    def _contents(self, files: Files) -> list[tuple[str, str]]:
        kinds = [
            *((name, f"{lens} lens, the token after each prompt") for lens, name in files.next_token.items()),
            *((name, f"{lens} lens, every position") for lens, name in files.records.items()),
            *([(files.decomposition, "the answer's logit, component by component")] if files.decomposition else []),
            (self._json().name, "prompts, milestones, checks, provenance"),
            (str(files.report), "the same in words"),
            (str(files.page), "all of it to look at, in a browser"),
            *((name, "plot") for name in files.plots),
        ]
        if self._residuals:
            kinds.append(
                (f"{len(self._residuals)} × residuals-….safetensors", "residual stream [row, position, width]")
            )
        return kinds


def write_cross_report(folder: SweepFolder, reports: Sequence[ReportInput]) -> Path:
    """Set several models side by side; the file comes back.

    Raises:
        OSError: The disk refuses.
    """
    path = folder.path / CROSS_REPORT
    replace_file(path, cross_model_report(reports).encode())
    return path


def record_skips(folder: SweepFolder, skipped: Sequence[tuple[str, str]]) -> None:
    """Write the documents of models that were not read, given with the reasons.

    Raises:
        OSError: The disk refuses.
    """
    for model, reason in skipped:
        _record_skip(folder, model, reason)


def _record_skip(folder: SweepFolder, model: str, reason: str) -> None:
    now, name = datetime.now(UTC), clean_name(model)
    is_path = model.startswith(("/", "~", ".")) or Path(model).exists()
    identity = ModelIdentity(name if is_path else model, name, None, None)
    facts = RunFacts(now, now, project_version(), git_sha(), None, None, None, None)
    path = folder.path / f"output-{name}.json"
    if not path.exists():  # a sweep that had begun has said more
        replace_file(path, to_json(skipped_output(identity, facts, reason)).encode())


def _suffix(lens: str) -> str:
    return "" if lens == "norm" else f"-{lens}"


def _by_kind(files: Files, name: str) -> dict[str, str]:
    kinds = {f"records{_suffix(lens)}": file for lens, file in files.records.items()}
    kinds |= {f"pure-next-token{_suffix(lens)}": file for lens, file in files.next_token.items()}
    kinds |= {} if files.decomposition is None else {"decomposition": files.decomposition}
    return kinds | {"json": f"output-{name}.json"}


def _identity(lm: FrozenLM) -> ModelIdentity:
    return ModelIdentity(lm.model_id, lm.clean_model_name, lm.model_commit, lm.tokenizer_commit)


def _dtype(lm: FrozenLM) -> str:
    return str(lm.dtype).removeprefix("torch.")


def _stats(module: LensTuning) -> ModelStats:
    lm, head = module.frozen, module.head
    return ModelStats(
        architecture=lm.anatomy.architecture,
        num_parameters=sum(parameter.numel() for parameter in lm.model.parameters()),
        num_blocks=lm.num_blocks,
        d_model=lm.d_model,
        vocab_size=lm.vocab_size,
        context_length=lm.context_length,
        tied_embeddings=lm.tied_embeddings,
        final_norm=head.final.kind,
        softcap=head.unembedding.softcap,
        logit_scale=head.unembedding.scale,
        head_sha256=head.sha256(),
    )


def _origin(provenance: Provenance | None) -> TunedLensOrigin | None:
    if provenance is None:
        return None
    return TunedLensOrigin(
        model_id=provenance.model_id,
        model_commit=provenance.model_commit,
        project_version=provenance.project_version,
        git_sha=provenance.git_sha,
        decoding_norm=provenance.decoding_norm,
        init=provenance.init.kind,
        seed=provenance.seed,
        rank_k=provenance.capacity.rank_k,
        tokens=provenance.budget.tokens,
        steps_done=provenance.optim.steps_done,
        weights_sha256=provenance.sha256["weights.pt"],
        all_gates_passed=None if provenance.acceptance is None else provenance.acceptance.passed,
    )


def _prism_origin(provenance: PrismProvenance | None) -> PrismOrigin | None:
    if provenance is None:
        return None
    return PrismOrigin(
        model_id=provenance.model_id,
        model_commit=provenance.model_commit,
        project_version=provenance.project_version,
        git_sha=provenance.git_sha,
        decoding_norm=provenance.decoding_norm,
        whiten=provenance.whiten,
        rows=provenance.rows,
        rank=provenance.rank,
        positions=provenance.positions,
        rotation_sha256=provenance.sha256[ROTATION_FILE],
    )
