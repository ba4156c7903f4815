import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from logos_pl.errors import GatesNotPassedError, RunError
from logos_pl.gates.evaluator import GateReadings, SkipReading
from logos_pl.gates.gates import evaluate_gates
from logos_pl.gates.kpis import measure
from logos_pl.gates.module import GateModule
from logos_pl.gates.report import GateReport
from logos_pl.gates.writer import GateWriter, baseline_table, gate_table
from logos_pl.settings.model import ModelSettings
from tests.artifacts.lenses import make_lm
from tests.gates.lens_suite import WORSE_BITS, prompt, text


def evaluated(good: bool) -> GateReadings:
    """What a good or a bad lens on a model of four blocks reads."""
    worse = WORSE_BITS if good else {"tuned": 3.0, "norm": 1.0, "norm_tau": 0.6, "bias": 0.4}
    prompts = [
        prompt(f"p{i}", num_blocks=4, worse_bits=worse, norm=[90, 90, 90, 1, 1], tuned=[90, 1, 1, 1, 1])
        for i in range(8)
    ]
    return GateReadings({}, {}, prompts, text(num_blocks=4, worse_bits=worse), SkipReading(1, {0: 2.0}, {}), [1.0] * 5)


def ended(folder: Path, good: bool) -> GateWriter:
    """The callback after a test, in a process that is not the first."""
    module = GateModule(ModelSettings(model_id="org/tiny"))
    module.build(make_lm())
    module.gate_readings = evaluated(good)
    writer = GateWriter(folder, is_artifact=True)
    writer.on_test_end(SimpleNamespace(is_global_zero=False), module)
    return writer


def test_every_process_judges_and_only_the_first_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended(tmp_path, good=True).raise_unless_passed()
    with pytest.raises(GatesNotPassedError, match=r"gate\(s\) A, .*D not passed"):
        ended(tmp_path, good=False).raise_unless_passed()
    assert GatesNotPassedError.exit_status == 3
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_test_that_never_ended_passes_no_verdict(tmp_path: Path) -> None:
    GateWriter(tmp_path, is_artifact=True).raise_unless_passed()


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits_and_has_measure_threshold_margin_and_verdict_of_every_comparison(width: int) -> None:
    figures = evaluated(good=False)
    kpis = measure(figures.prompts, figures.text, 4)
    report = GateReport(kpis, evaluate_gates(kpis))
    printed = io.StringIO()
    Console(file=printed, width=width).print(gate_table(report))
    lines = printed.getvalue().splitlines()

    assert max(map(len, lines)) <= width
    assert lines[0].split() == ["gate", "what", "measured", "threshold", "margin", "verdict"]
    starts = [line for line in lines[1:] if not line.startswith(" ")]
    assert len(starts) == len(report.verdict.checks) == 10
    for line, check in zip(starts, report.verdict.checks, strict=True):
        assert line.startswith(check.gate)
        assert ("not passed" in line) == (not check.passed)
    if width == 200:
        assert len(lines) == 11
    for wanted in ("-2.000 [", "≥ 0.200", "-2.200"):
        assert wanted in starts[0]


def test_every_baseline_has_a_line_with_the_gain_over_it() -> None:
    figures = evaluated(good=True)
    kpis = measure(figures.prompts, figures.text, 4)
    printed = io.StringIO()
    Console(file=printed, width=80).print(baseline_table(GateReport(kpis, evaluate_gates(kpis))))
    lines = printed.getvalue().splitlines()
    assert len(lines) == 3
    for line, worse in zip(lines, ("norm", "norm_tau", "bias"), strict=True):
        gain = kpis.gain_bits[worse]
        assert gain is not None
        assert f"{gain.estimate:.3f} [" in line
        assert line.rstrip().endswith("  beaten")


def test_what_a_table_shows_is_never_read_as_markup() -> None:
    figures = evaluated(good=True)
    kpis = measure(figures.prompts[:2], figures.text, 4)
    report = GateReport(kpis, evaluate_gates(kpis))
    printed = io.StringIO()
    Console(file=printed, width=200).print(gate_table(report))
    intervals = [row.measured for row in report.table() if "[" in row.measured]
    assert len(intervals) == 10
    assert all(measured in printed.getvalue() for measured in intervals)


@pytest.mark.parametrize("is_artifact", [True, False])
def test_a_verdict_that_could_not_be_written_is_refused_before_anything_is_read(
    is_artifact: bool, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    writer = GateWriter(tmp_path / "file" / "lens", is_artifact)
    writer.setup(SimpleNamespace(is_global_zero=False), SimpleNamespace(), "test")
    with pytest.raises(RunError, match=r"^Cannot write to .*: Not a directory|File exists"):
        writer.setup(SimpleNamespace(is_global_zero=True), SimpleNamespace(), "test")
