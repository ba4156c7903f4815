"""What is timed are the commands as a user types them; the times themselves are no test."""

import time

import pytest

from benchmarks import start
from benchmarks.start import COMMANDS, LEAST, cpu_seconds_of_children, main, start_table
from logos_pl.errors import RunError


def test_a_run_gives_every_command_a_line_with_its_ratio_to_an_empty_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--repeats", "2", "--cpu_time"]) == 0
    said = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("|")]
    heading, _, *rows = lines
    assert heading == ["", "ms", "/ python -c pass"]
    assert [row[0] for row in rows] == [
        "python -c pass", "logos-pl --help", "logos-pl --version", "logos-pl fti", "logos-pl hub --help",
        "logos-pl read --help",
    ]  # fmt: skip
    assert rows[0][2] == "1"
    for row in rows[1:]:
        median, lowest, highest = (float(number) for number in row[2].rstrip(")").replace(" (", "–").split("–"))
        assert 0 < lowest <= median <= highest
    assert "CPU times of the process are medians of 2 rounds" in said


def test_the_table_names_the_commands_that_are_run() -> None:
    for name, (arguments, _) in COMMANDS.items():
        typed = name.split(" ", 1)[1].split()
        assert arguments == (typed if name == LEAST else ["-m", "logos_pl", *typed])


def test_ratios_are_of_rounds_and_times_medians_of_their_own() -> None:
    found = start_table({LEAST: [0.01, 0.02, 0.04], "logos-pl --help": [0.03, 0.03, 0.05]})
    assert found.splitlines()[2:] == [
        "| python -c pass  | 20.0 |                1 |",
        "| logos-pl --help | 30.0 | 1.50 (1.25–3.00) |",
    ]


def test_a_command_with_an_unexpected_exit_status_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunError, match="ended with status 3: no such thing"):
        start.start(["-c", "import sys; sys.exit(print('no such thing', file=sys.stderr) or 3)"], 0)
    monkeypatch.setattr(start, "COMMANDS", {LEAST: (["-c", "pass"], 1)})
    assert main(["--repeats", "1"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("benchmarks.start: python -c pass ended with status 0")
    assert said.out == ""


@pytest.mark.parametrize("repeats", ["0", "-1"])
def test_fewer_rounds_than_one_are_refused(repeats: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--repeats", repeats]) == 2
    assert "--repeats must be at least 1" in capsys.readouterr().err


def test_the_cpu_time_is_that_of_the_commands_and_no_waiting() -> None:
    before = cpu_seconds_of_children()
    deadline = time.process_time() + 0.2
    while time.process_time() < deadline:
        pass
    assert cpu_seconds_of_children() == before, "this process's own is left out"
    start.start(["-c", "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.5)"], 0)
    assert 0.3 <= cpu_seconds_of_children() - before < 0.75
