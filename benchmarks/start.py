"""Measures how fast `logos-pl` answers if nothing has to be loaded, and `read`: `python -m benchmarks.start`.

Every command is a separate process, as started by a shell; `python -c pass` is the lower bound. Commands run
alternately, and ratios are formed within each round.
"""

import argparse
import resource
import subprocess
import sys
import time
from functools import partial
from statistics import median

import torch

from benchmarks.machine import describe, load_average
from benchmarks.report import as_text, machine_lines, ms, table
from benchmarks.timing import Times, alternate, ratio
from logos_pl.bounds import check_number
from logos_pl.errors import LogosError, RunError

LEAST = "python -c pass"
COMMANDS = {
    LEAST: (["-c", "pass"], 0),
    "logos-pl --help": (["-m", "logos_pl", "--help"], 0),
    "logos-pl --version": (["-m", "logos_pl", "--version"], 0),
    "logos-pl fti": (["-m", "logos_pl", "fti"], 2),
    "logos-pl hub --help": (["-m", "logos_pl", "hub", "--help"], 0),
    "logos-pl read --help": (["-m", "logos_pl", "read", "--help"], 0),
}
"""Arguments of the interpreter and expected exit status, by command; `fti` is a mistyped `fit`."""

READING = {
    "import torch, transformers": (["-c", "import torch; from transformers import PreTrainedModel"], 0),
    "logos-pl read PROMPT": (["-m", "logos_pl", "read", "The capital of Germany is", "--answer", "Berlin"], 0),
}
"""What `--read` adds: from nothing to a table on the demo, and the part of it that is the libraries'."""

MAX_REPEATS = 10_000


def start(arguments: list[str], status: int) -> None:
    """Run the interpreter.

    Raises:
        RunError: It ends with an unexpected status.
    """
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != status:
        raise RunError(f"python {' '.join(arguments)} ended with status {done.returncode}: {done.stderr.strip()}")


def cpu_seconds_of_children() -> float:
    """CPU time of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start_table(times: Times) -> str:
    """Table of medians by command, and ratios to the lower bound."""
    rows = [
        [name, ms(median(seconds)), "1" if name == LEAST else as_text(ratio(times, name, LEAST))]
        for name, seconds in times.items()
    ]
    return table(["", "ms", f"/ {LEAST}"], rows)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table.

    Returns:
        Exit status, as the `logos-pl` command's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21, help="rounds")
    parser.add_argument("--cpu_time", action="store_true", help="CPU time of the commands instead of the wall clock")
    parser.add_argument("--read", action="store_true", help="also `logos-pl read` on the demo, seconds a round")
    given = parser.parse_args(arguments)
    load, device = load_average(), torch.device("cpu")
    variants = {
        name: partial(start, *command) for name, command in (COMMANDS | (READING if given.read else {})).items()
    }
    clock = cpu_seconds_of_children if given.cpu_time else time.perf_counter
    try:
        check_number("--repeats", given.repeats, at_least=1, at_most=MAX_REPEATS)
        times = alternate(variants, given.repeats, device, clock=clock)
    except LogosError as error:
        print(f"benchmarks.start: {error}", file=sys.stderr)
        return error.exit_status
    print(machine_lines(describe(device, load), given.repeats, given.cpu_time))
    print(f"\nFrom start to end of a process.\n\n{start_table(times)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
