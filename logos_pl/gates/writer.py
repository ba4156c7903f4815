"""End of a test: prints the verdict, logs it to TensorBoard and writes it to the folder of the lens."""

import json
import math
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.markup import escape
from rich.table import Table

from logos_pl.agreement import together
from logos_pl.artifacts.gates import record_gates
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.store import check_writable
from logos_pl.data.evaluation_text import TestText
from logos_pl.errors import GatesNotPassedError
from logos_pl.functional.divergence import NATS_TO_BITS
from logos_pl.gates.evaluator import GateReadings
from logos_pl.gates.gates import evaluate_gates, gate_of
from logos_pl.gates.kpis import measure
from logos_pl.gates.measurements import DECIDES
from logos_pl.gates.module import GateModule
from logos_pl.gates.plots import gains_figure, rows_figure
from logos_pl.gates.report import GateReport
from logos_pl.gates.tables import prompts_csv, rows_csv
from logos_pl.gates.unspoken_result import UnspokenResult
from logos_pl.io.files import replace_file
from logos_pl.io.fitting import fits, print_table
from logos_pl.io.terminal import say
from logos_pl.kinds.registry import evaluated, kind_of, plain_origin
from logos_pl.kinds.tuned import exported_step
from logos_pl.modules.kl_table import print_kl_table
from logos_pl.modules.pictures import png
from logos_pl.modules.transfer_record import measured, print_transfer, text_of


class GateWriter(Callback):
    """Evaluates the gates of every lens at the end of the test, and records the results.

    Only the verdict of the tuned lens sets the exit status.

    Args:
        folder: Folder of the artifact, of the checkpoint or of the logs.
        is_artifact: Whether it is an artifact, whose provenance and card are updated with the verdict.
    """

    def __init__(self, folder: Path, is_artifact: bool) -> None:
        self.folder = folder
        self.is_artifact = is_artifact
        self.report: GateReport | None = None
        self.others: dict[str, GateReport] = {}
        self.unspoken: UnspokenResult | None = None

    @together
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before the test that the verdict can be written.

        Raises:
            RunError: The folder cannot be written.
        """
        if trainer.is_global_zero:
            check_writable(self.folder.parent if self.is_artifact else self.folder)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the gates in every process; the first one prints and writes."""
        assert isinstance(pl_module, GateModule)
        readings = pl_module.gate_readings
        assert readings is not None
        self.report = _report(readings, pl_module, DECIDES)
        others = [lens for lens in evaluated() if lens != DECIDES and lens in readings.rows]
        self.others = {lens: _report(readings, pl_module, lens) for lens in others}
        if not trainer.is_global_zero:
            return
        data: TestText = trainer.datamodule  # type: ignore[attr-defined]
        bytes_per_token = data.bytes_per_token()
        if data.unspoken is not None and pl_module.unspoken_readings is not None:
            self.unspoken = UnspokenResult(*data.unspoken, pl_module.unspoken_readings)
        self._print(readings)
        figures = self.report.figures() | {"skip_layers": _skip_layers(readings)}
        on = data.evaluated_on() | {"device": str(pl_module.frozen.device), "dtype": _dtype(pl_module)}
        acceptance = self.report.acceptance() | {"evaluated_on": on}
        document = self.report.to_plain() | {"kpis": figures, "acceptance": acceptance}
        for lens, report in self.others.items():
            document[lens] = {
                "origin": plain_origin(kind_of(lens).section.describe(pl_module.origins.get(lens))),
                "acceptance": report.acceptance(),
                "kpis": report.figures(),
            }
        if self.unspoken is not None:
            document["intermediates"] = self.unspoken.section()
        moved = {lens: of for lens, of in pl_module.transfers.items() if lens in readings.rows}
        if moved:
            found = {lens: measured(of, readings.rows, lens, text_of(data)) for lens, of in moved.items()}
            document["transfer"] = {lens: of.to_plain() for lens, of in found.items()}
            for lens, of in found.items():
                print_transfer(of, lens)
        files = self._files(readings, pl_module, document, bytes_per_token)
        origin = pl_module.origins[DECIDES]
        if self.is_artifact:
            assert isinstance(origin, Provenance)
            record_gates(self.folder, origin, files)
        else:
            for name, content in files.items():
                replace_file(self.folder / name, content)
        tables = ", ".join(name for name in files if name.endswith(".csv"))
        pictures = sum(name.endswith(".png") for name in files)
        say(f"verdict: {os.path.relpath(self.folder)}/gates.json, with {tables} and {pictures} plots")
        name = pl_module.frozen.clean_model_name
        self._log(trainer, readings, bytes_per_token, name, exported_step(origin))

    def raise_unless_passed(self) -> None:
        """Raise if the tuned lens failed a gate.

        Raises:
            GatesNotPassedError: A gate was not passed; the message names it.
        """
        if self.report is not None and not self.report.verdict.passed:
            raise GatesNotPassedError(f"{self.report.summary()}: see the table above.")

    def _files(
        self, readings: GateReadings, module: GateModule, document: dict[str, Any], bytes_per_token: float
    ) -> dict[str, bytes]:
        assert self.report is not None
        lm, bits = module.frozen, _bits_per_byte(readings, bytes_per_token)
        document = document | {
            "model": {"model_id": lm.model_id, "model_commit": lm.model_commit},
            "test_bytes_per_token": bytes_per_token,
            "norm_tau": [1 / inv_tau for inv_tau in readings.norm_inv_tau],
        }
        return {
            "gates.json": (json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode(),
            "gates-prompts.csv": prompts_csv(readings.prompts, lm.num_blocks).encode(),
            "gates-rows.csv": rows_csv(readings.rows, bits).encode(),
            "gates-rows.png": png(rows_figure(readings.rows, bits, lm.clean_model_name)),
            "gates-gains.png": png(gains_figure(self.report.kpis, lm.clean_model_name)),
            **({} if self.unspoken is None else self.unspoken.files(lm)),
        }

    def _print(self, readings: GateReadings) -> None:
        assert self.report is not None
        shown = os.path.relpath(self.folder)
        print_kl_table(readings.rows, f"KL divergence in bits on held-out test text, {shown}:", ("norm", DECIDES))
        say(f"\nNext token of that text, {_skips(readings)}")
        if self.unspoken is not None:
            self.unspoken.print()
        _print_gates(self.report, DECIDES, self.unspoken)
        for lens, report in self.others.items():
            title = f"KL divergence in bits on the same text, {kind_of(lens).label}:"
            print_kl_table(readings.rows, title, ("norm", lens))
            _print_gates(report, lens, self.unspoken)

    def _log(self, trainer: Trainer, readings: GateReadings, bytes_per_token: float, name: str, step: int) -> None:
        """Log scalars and figures to TensorBoard at the step of the lens, so that several tests form a curve."""
        if not isinstance(trainer.logger, TensorBoardLogger):
            return
        assert self.report is not None
        writer, kpis = trainer.logger.experiment, self.report.kpis
        scalars = _scalars(self.report) | {
            f"perplexity_without_last_{m}_blocks": value for m, value in readings.skips.perplexity.items()
        }
        for lens, report in self.others.items():
            scalars |= {f"{lens}_{label}": value for label, value in _scalars(report).items()}
        if self.unspoken is not None:
            scalars |= self.unspoken.scalars()
        for label, value in scalars.items():
            writer.add_scalar(f"test/{label}", value, step)
        rows = rows_figure(readings.rows, _bits_per_byte(readings, bytes_per_token), name)
        writer.add_figure("test/rows", rows, step)
        writer.add_figure("test/gains", gains_figure(kpis, name), step)
        if self.unspoken is not None:
            writer.add_figure("test/intermediates", self.unspoken.figure(name), step)
        writer.flush()


def _report(readings: GateReadings, module: GateModule, lens: str) -> GateReport:
    kpis = measure(readings.prompts, readings.text, module.frozen.num_blocks, lens)
    return GateReport(kpis, evaluate_gates(kpis))


def _print_gates(report: GateReport, lens: str, unspoken: UnspokenResult | None) -> None:
    """Print gates, gains over the baselines, remarks and verdict of a lens."""
    kpis = report.kpis
    say(
        f"\nGates over {kpis.num_used} prompts and {kpis.num_sequences} sequences of text: how much closer the\n"
        f"{kind_of(lens).label} is to the model than the norm lens, in bits, with 95% intervals"
    )
    print_gate_tables(report)
    beside = None if unspoken is None else unspoken.beside_gate_b(lens)
    if beside is not None:
        say(f"· {beside}")
    for remark in report.acceptance()["remarks"]:
        say(f"· {remark}")
    verdict = report.summary() if lens == DECIDES else f"{kind_of(lens).label}: {report.summary()}"
    say(f"\n{verdict}", style="bold")


def print_gate_tables(report: GateReport) -> None:
    """Print the gates, and the gains over the baselines."""
    table = gate_table(report)
    print_table(table if fits(table) else gate_table(report, stacked=True))
    for check in report.verdict.checks:
        if gate_of(check.gate).spelled_out:
            say(f"{check.gate}: {check.what}")
    say("\nGain on that text over each baseline, in bits, mean of the three depths")
    print_table(baseline_table(report))


def gate_table(report: GateReport, stacked: bool = False) -> Table:
    """Table of the checks: measured value, threshold, margin and result.

    Args:
        report: Results of a lens.
        stacked: Put each interval below its estimate, and the margin below the threshold, for narrow terminals.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("gate", no_wrap=True)
    table.add_column("what")
    for heading in ("measured", "threshold\nmargin") if stacked else ("measured", "threshold", "margin"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in report.table():
        figures = [row.measured, row.threshold, row.margin]
        if stacked:
            figures = [row.measured.replace(" [", "\n["), f"{row.threshold}\n{row.margin}"]
        verdict = row.verdict if row.verdict == "passed" else f"[bold]{row.verdict}[/bold]"
        table.add_row(row.gate, escape(row.what), *map(escape, figures), verdict)
    return table


def baseline_table(report: GateReport) -> Table:
    """Table of the baselines: gain over each, and whether it counts."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for no_wrap in (False, True, True):
        table.add_column(no_wrap=no_wrap)
    for cells in report.baselines():
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _bits_per_byte(readings: GateReadings, bytes_per_token: float) -> dict[str, Any]:
    return {lens: nats * NATS_TO_BITS / bytes_per_token for lens, nats in readings.next_token_nats.items()}


def _skip_layers(readings: GateReadings) -> dict[str, Any]:
    """Skip-layers check as plain values."""
    skips = readings.skips
    return {
        "num_tokens": skips.num_tokens,
        "perplexity": {str(m): _or_none(value) for m, value in skips.perplexity.items()},
        "not_applicable": {str(m): reason for m, reason in skips.not_applicable.items()},
    }


def _dtype(module: GateModule) -> str:
    return str(module.frozen.dtype).removeprefix("torch.")


def _or_none(value: float) -> float | None:
    """The number, or None if not finite, as for a perplexity that overflows."""
    return value if math.isfinite(value) else None


def _skips(readings: GateReadings) -> str:
    """Skip-layers check in one sentence."""
    skips = readings.skips
    parts = [f"{skips.perplexity[0]:.4g} by the model itself"]
    parts += [f"{value:.4g} without its last {m} blocks" for m, value in skips.perplexity.items() if m != 0]
    lens = " (the tuned lens in their place)" if len(parts) > 1 else ""
    return f"perplexity over {skips.num_tokens:,} tokens: {', '.join(parts)}{lens}."


def _scalars(report: GateReport) -> dict[str, float]:
    scalars = {f"gate_{gate}_passed": float(passed) for gate, passed in report.verdict.gates.items()}
    for baseline, sets in report.kpis.median_delta_kl_bits.items():
        for where, deltas in sets.items():
            for depth, delta in deltas.items():
                if delta is not None:
                    scalars[f"delta_kl_bits_{baseline}_{where}_depth{depth}"] = delta.to_final.estimate
    for rank, shift in report.kpis.earliness_shift.items():
        if shift is not None:
            scalars[f"earliness_rows_rank_le_{rank}"] = shift.estimate
    return scalars
