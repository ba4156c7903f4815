"""Output of a sweep: tables on the terminal, and CSV, JSON, plots, report and page in the run's folder."""

import os
import signal
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.artifacts.filenames import PROVENANCE_FILE
from logos_pl.data.prompt_data import PromptData
from logos_pl.data.token_strings import TokenStrings
from logos_pl.errors import DISK_ERRORS, InputError, InterruptedRunError, RunError
from logos_pl.io.terminal import say
from logos_pl.modules.graceful_stop import SIGNALS
from logos_pl.settings.sweep import SweepSettings
from logos_pl.sweeps.copy_collapse import CopyRule
from logos_pl.sweeps.files import SweepFiles
from logos_pl.sweeps.folder import SweepFolder, open_given_folder, open_sweep_folder
from logos_pl.sweeps.milestones import Milestones, milestones
from logos_pl.sweeps.module import SweepModule
from logos_pl.sweeps.reader import BatchReading
from logos_pl.sweeps.recording import records_of
from logos_pl.sweeps.records import PromptRecords
from logos_pl.sweeps.report_input import ReportInput
from logos_pl.sweeps.tables import print_prompt_table, print_summary, summary_line

MAX_TABLES = 12
"""Largest number of prompts for which a table each is printed."""

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between progress lines."""


@contextmanager
def _disk_errors_named(folder: Path) -> Iterator[None]:
    """Context that turns disk errors into a RunError with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise RunError(
            f"The sweep could not be written to {os.path.relpath(folder)}: {error.strerror}; earlier prompts are "
            "kept in .partial files: fix the disk, or choose another folder with --sweep.out_dir."
        ) from error


class SweepDestination:
    """Output folder of a command's sweeps, created when the first starts: bad input never renames an earlier run.

    Attributes:
        reports: Report inputs of the models in order, for their comparison.
    """

    def __init__(self) -> None:
        self._root, self._out_dir, self._names = Path("lightning_logs"), "", [""]
        self._folder: SweepFolder | None = None
        self.reports: list[ReportInput] = []

    def resolve(self, root: Path, out_dir: str | None, model_names: Sequence[str]) -> None:
        """Set the root folder of the logs, the folder given by the user, and the models' clean names."""
        self._root, self._out_dir, self._names = root, out_dir or "", list(model_names)

    def open(self) -> SweepFolder:
        """Return the folder, creating it at the first call.

        Raises:
            InputError: A file or results of one of the models are in the way, or the folder holds a lens.
            RunError: The folder cannot be written.
        """
        if self._folder is None:
            if self._out_dir:
                if os.path.lexists(Path(self._out_dir) / PROVENANCE_FILE):
                    raise InputError(f"{self._out_dir} holds a lens: choose another --sweep.out_dir.")
                self._folder = open_given_folder(Path(self._out_dir), self._names)
            else:
                self._folder = open_sweep_folder(self._root, datetime.now(UTC))
            if self._folder.note is not None:
                say(self._folder.note)
        return self._folder

    def close(self) -> None:
        """Release the folder."""
        if self._folder is not None:
            self._folder.close()


class SweepWriter(Callback):
    """Writes the readings batch by batch, and tables, plots and report at the end.

    Args:
        settings: Options of the sweep.
        destination: Output folder.
        command: Command line that repeats the sweep, without its prompts.
        opener: Opens an address in a browser; returns whether it could.
    """

    def __init__(
        self,
        settings: SweepSettings,
        destination: SweepDestination,
        command: str,
        opener: Callable[[str], bool] = webbrowser.open,
    ) -> None:
        self.settings, self.destination, self.command, self._opener = settings, destination, command, opener
        self.copy_rule = CopyRule(settings.copy_threshold, settings.copy_margin)
        self._files: SweepFiles | None = None
        self._handlers: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before the model is loaded that the folder given by the user can be written.

        Raises:
            InputError: Results of the model or a file are in the way.
            RunError: The folder cannot be written.
        """
        if self.settings.out_dir:
            self.destination.open()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the files, after model and lenses are loaded, and install handlers for SIGINT and SIGTERM.

        Raises:
            InputError: Direct logit attribution is requested but not possible for the model.
            RunError: The files cannot be written.
        """
        assert isinstance(pl_module, SweepModule)
        pl_module.make_reader()  # may raise, before any file is created
        tokenizer = pl_module.frozen.tokenizer
        assert tokenizer is not None, "the data module has read the prompts with it"
        self._strings, self._special = TokenStrings(tokenizer), set(tokenizer.all_special_ids)
        self._lines: list[tuple[str, ...]] = []
        self._done, self._start, self._last_line = 0, time.monotonic(), time.monotonic()
        self._data: PromptData = trainer.datamodule  # type: ignore[attr-defined]
        folder = self.destination.open()
        with _disk_errors_named(folder.path):
            self._files = SweepFiles(
                folder,
                pl_module,
                self.settings.raw_lens,
                command=self.command,
                attribution=self.settings.attribution,
                copy_rule=self.copy_rule,
            )
        self._handlers = {number: signal.signal(number, self._stop) for number in SIGNALS}

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Abort the sweep; a second signal kills the process.

        Raises:
            InterruptedRunError: Always.
        """
        for listened in SIGNALS:
            signal.signal(listened, signal.SIG_DFL)
        where = ""
        if self._files is not None:
            where = f"; their readings are in the .partial files of {os.path.relpath(self._files.folder)}"
        raise InterruptedRunError(
            f"Stopped by {signal.Signals(number).name} after {self._done} of {self._data.num_prompts} prompts{where}.",
            number,
        )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write and print the prompts of a batch.

        Raises:
            RunError: The files cannot be written.
        """
        assert isinstance(pl_module, SweepModule)
        assert isinstance(outputs, BatchReading)
        assert self._files is not None
        tied = pl_module.frozen.tied_embeddings
        read = records_of(outputs, self._strings, self._special, tied, self.copy_rule)
        for number, records in enumerate(read):
            reached = {lens: milestones(rows) for lens, rows in records.next_token.items()}
            with _disk_errors_named(self._files.folder):
                self._files.add(records, reached)
                if outputs.residuals is not None:
                    start = outputs.starts[number]
                    self._files.add_residuals(records, outputs.residuals[:, start : start + len(records.ids)])
            self._show(records, reached)
        self._progress()

    def _show(self, records: PromptRecords, reached: dict[str, Milestones]) -> None:
        self._done += 1
        self._lines.append(summary_line(records, reached))
        total = self._data.num_prompts
        if total <= MAX_TABLES:
            if self._done == 1:
                say("KL is KL(row‖final), H the entropy, in bits; * where a milestone is reached.")
            print_prompt_table(records, reached)

    def _progress(self) -> None:
        """Print progress, if no tables are printed."""
        now, total = time.monotonic(), self._data.num_prompts
        if total > MAX_TABLES and (now - self._last_line >= SECONDS_BETWEEN_LINES or self._done == total):
            self._last_line = now
            rate = self._done / max(now - self._start, 1e-9)
            left = (total - self._done) / rate
            say(f"{self._done} of {total} prompts · {rate:,.1f} prompts/s · {left:.0f} s left")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the summary, complete the files and list them.

        Raises:
            RunError: The files cannot be written.
        """
        assert self._files is not None
        files = self._files
        with _disk_errors_named(files.folder):
            written = files.finish()
        self._files = None
        self.destination.reports.append(files.report)
        if len(self._lines) > 1:
            say("\nFirst row with the answer at rank 1, and with KL(row‖final) below 1 bit:")
            print_summary(self._lines, files.lenses)
        if self._data.num_prompts > MAX_TABLES:
            say(f"More than {MAX_TABLES} prompts: their tables, row by row, are in the CSV files and on the page.")
        if self.settings.attribution:
            say(files.exactness())
        if preference := files.preference():
            say(preference)
        folder = os.path.relpath(files.folder)
        say(f"\nsweep: {folder}")
        width = max(len(name) for name, _ in written)
        for name, what in written:
            say(f"  {name:{width}}  {what}")
        if self.settings.open and not self._opener(files.page.resolve().as_uri()):
            say(f"No browser could be started: open {os.path.relpath(files.page)} in one.")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record the failure; readings so far remain in `.partial` files."""
        if self._files is not None:
            files, self._files = self._files, None
            with suppress(OSError):  # the record cannot be written either
                files.fail(exception)
        self.teardown(trainer, pl_module, "predict")  # Lightning skips teardown after an error
