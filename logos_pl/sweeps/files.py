"""Output files of a model's sweep: CSV and page during the sweep; JSON, plots and report at its end."""

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from logos_pl.io.files import replace_file
from logos_pl.kinds.registry import compared, kind_of, swept
from logos_pl.modules.base import LensModule
from logos_pl.sweeps.copy_collapse import COPY_RULE, CopyRule
from logos_pl.sweeps.document import OutputBuilder, failed_output, preferred_lens, to_json
from logos_pl.sweeps.document_prompt import RawLens
from logos_pl.sweeps.document_schema import Files
from logos_pl.sweeps.folder import SweepFolder
from logos_pl.sweeps.milestones import Milestones
from logos_pl.sweeps.page import PageWriter, partly_read
from logos_pl.sweeps.pictures import Drawn, draw_pictures
from logos_pl.sweeps.plots import PromptSample
from logos_pl.sweeps.record_csv import RecordWriter
from logos_pl.sweeps.records import ContributionRecord, NextTokenRecord, PositionRecord, PromptRecords
from logos_pl.sweeps.report import evaluation_report
from logos_pl.sweeps.report_input import ReportInput
from logos_pl.sweeps.run_facts import dtype_name, model_identity, model_stats, run_facts


class SweepFiles:
    """Writes the files of a model's sweep; at the end, `report` is the input for a comparison of models.

    Args:
        folder: Output folder, possibly shared with other models.
        module: Module with model and lenses loaded.
        raw_lens: Rows at which norm lens and raw lens are compared in the JSON.
        command: Command line that repeats the sweep, without its prompts.
        attribution: Whether direct logit attribution is written.
        copy_rule: Condition for copy collapse.

    Raises:
        OSError: A file cannot be written.
    """

    def __init__(
        self,
        folder: SweepFolder,
        module: LensModule,
        raw_lens: RawLens,
        *,
        command: str,
        attribution: bool = False,
        copy_rule: CopyRule = COPY_RULE,
    ) -> None:
        self.folder = folder.path
        self.name = module.frozen.clean_model_name
        self.lenses = [lens for lens in swept() if lens in module.lenses]
        self.module = module
        self.origins = {kind.name: kind.section.describe(module.origins.get(kind.name)) for kind in compared()}
        self.copy_rule = copy_rule
        self.started = datetime.now(UTC)
        self._builder = OutputBuilder(raw_lens)
        self._drawn = PromptSample()
        self._residuals: list[str] = []
        self._largest_error_nats = 0.0
        self._num_attributed = 0
        self._not_attributed: list[str] = []
        with ExitStack() as stack:
            self._positions = {
                lens: stack.enter_context(RecordWriter(self._table("records", lens), PositionRecord))
                for lens in self.lenses
            }
            self._next_token = {
                lens: stack.enter_context(RecordWriter(self._table("pure-next-token", lens), NextTokenRecord))
                for lens in self.lenses
            }
            self._contributions: RecordWriter[ContributionRecord] | None = None
            if attribution:
                writer = RecordWriter(self._path("decomposition.csv"), ContributionRecord)
                self._contributions = stack.enter_context(writer)
            num_blocks = module.frozen.num_blocks
            partly = partly_read({lens: module.lenses[lens] for lens in self.lenses})
            page = PageWriter(self._path("page.html"), self.name, self.lenses, num_blocks, command, partly)
            self._page = stack.enter_context(page)
            self._open_files = stack.pop_all()

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self._page.path

    def _path(self, ending: str) -> Path:
        return self.folder / f"output-{self.name}-{ending}"

    def _table(self, records: str, lens: str) -> Path:
        return self._path(f"{records}{kind_of(lens).file_suffix}.csv")

    def add(self, records: PromptRecords, reached: Mapping[str, Milestones]) -> None:
        """Write one prompt.

        Raises:
            OSError: A file cannot be written.
        """
        for lens in self.lenses:
            self._positions[lens].write(records.positions[lens])
            self._next_token[lens].write(records.next_token[lens])
        if self._contributions is not None and records.attribution is not None:
            self._contributions.write(records.attribution.contributions)
            self._largest_error_nats = max(self._largest_error_nats, abs(records.attribution.error_nats))
            self._num_attributed += 1
        if records.not_attributed is not None:
            self._not_attributed.append(records.not_attributed)
        self._page.add(records, reached)
        self._builder.add(records)
        self._drawn.add(records)

    def add_residuals(self, records: PromptRecords, h: Float[Tensor, "rows pos d_model"]) -> None:
        """Write the residual stream of a prompt.

        Raises:
            OSError: A file cannot be written.
        """
        path = self._path(f"residuals-{records.prompt.prompt_id}-{records.prompt.variant}.safetensors")
        replace_file(path, save({"residuals": h.contiguous()}))
        self._residuals.append(path.name)

    def exactness(self) -> str:
        """Sentence on the error of the attribution, and on the number of prompts without it."""
        sentences = []
        if self._num_attributed:
            sentences.append(
                "Embedding, attention, MLP and biases add up to the model's own logits within "
                f"{self._largest_error_nats:.1g} nats in {dtype_name(self.module.frozen)}."
            )
        if left_out := len(self._not_attributed):
            of = left_out + self._num_attributed
            more = "" if left_out == 1 else " The others are in the JSON, under diagnostics."
            sentences.append(
                f"Left out of the attribution: {left_out} of {of} prompts. {self._not_attributed[0]}{more}"
            )
        return " ".join(sentences)

    def preference(self) -> str:
        """Sentence on which lens is preferred and why; empty if no lens has gates."""
        for kind in compared():
            if kind.accepted is None or kind.name not in self.lenses:
                continue
            passed = kind.accepted(self.origins[kind.name])
            if passed is None:
                return f"The {kind.label} has not been tested (`logos-pl test`): use the norm lens."
            if not passed:
                return f"The {kind.label} has not passed all gates: use the norm lens."
            return f"The {kind.label} has passed all gates: use it."
        return ""

    def finish(self) -> list[tuple[str, str]]:
        """Complete all files.

        Returns:
            Name and description of each file.

        Raises:
            OSError: A file cannot be written.
        """
        self._open_files.close()
        lm = self.module.frozen
        num_attributed = None if self._contributions is None else self._num_attributed
        drawn = draw_pictures(Drawn(self._drawn, lm.num_blocks, self.name, self.lenses, num_attributed), self._path)
        report = self._path("evaluation.md").with_name(f"evaluation-{self.name}.md")
        files = Files(
            records={lens: writer.path.name for lens, writer in self._positions.items()},
            next_token={lens: writer.path.name for lens, writer in self._next_token.items()},
            decomposition=None if self._contributions is None else self._contributions.path.name,
            plots=drawn,
            page=self._page.path.name,
            report=report.name,
        )
        self.report = ReportInput(
            model_id=lm.model_id if lm.named_revision is None else f"{lm.model_id}@{lm.named_revision}",
            clean_model_name=self.name,
            num_blocks=lm.num_blocks,
            swept=self._builder.swept(),
            files=_by_kind(files, self.name),
            preferred_lens=preferred_lens(self.origins),
            pictures=drawn,
            transfers=self.module.transfers,
        )
        replace_file(report, evaluation_report(self.report).encode())
        facts = run_facts(self.module, self.started, self.copy_rule)
        output = self._builder.finish(
            model_identity(lm), facts, files, model_stats(self.module), self.origins, self.module.transfers
        )
        replace_file(self._json(), to_json(output).encode())
        return self._contents(files)

    def _json(self) -> Path:
        return self.folder / f"output-{self.name}.json"

    def fail(self, error: BaseException) -> None:
        """Record that the sweep failed; incomplete files remain as `.partial`.

        Raises:
            OSError: The record cannot be written.
        """
        try:
            self._open_files.__exit__(type(error), error, error.__traceback__)
        finally:  # closing may fail for the same reason
            self._record_failure(error)

    def _record_failure(self, error: BaseException) -> None:
        sentence = " ".join(str(error).split()) or type(error).__name__
        facts = run_facts(self.module, self.started, self.copy_rule)
        output = failed_output(model_identity(self.module.frozen), facts, sentence)
        replace_file(self._json(), to_json(output).encode())

    def _contents(self, files: Files) -> list[tuple[str, str]]:
        contents = [
            *((name, f"{lens} lens, the token after each prompt") for lens, name in files.next_token.items()),
            *((name, f"{lens} lens, every position") for lens, name in files.records.items()),
            *([(files.decomposition, "the answer's logit, component by component")] if files.decomposition else []),
            (self._json().name, "prompts, milestones, checks, provenance"),
            (str(files.report), "report: the results in words"),
            (str(files.page), "interactive page for a browser"),
            *((name, "plot") for name in files.plots),
        ]
        if self._residuals:
            contents.append(
                (f"{len(self._residuals)} × residuals-….safetensors", "residual stream [row, position, width]")
            )
        return contents


def _by_kind(files: Files, name: str) -> dict[str, str]:
    """Names of tables and JSON by content, for the report."""
    kinds = {f"records{kind_of(lens).file_suffix}": file for lens, file in files.records.items()}
    kinds |= {f"pure-next-token{kind_of(lens).file_suffix}": file for lens, file in files.next_token.items()}
    kinds |= {} if files.decomposition is None else {"decomposition": files.decomposition}
    return kinds | {"json": f"output-{name}.json"}
