"""Run logos-pl on malformed inputs of every kind and check that each ends in one clear message and a valid exit status.

    python scripts/fuzz.py --cases 10000                        # all kinds by their shares, on all processors
    python scripts/fuzz.py --kind config --case 17 --seed 0     # one case, with what it said

A case is a function of kind, number and seed. It copies a folder with a valid example of every input, damages
something in it, and runs a command in a separate process with limits on time and memory. `fuzzing/verdict.py` defines
what counts as a fault. Exit status: 0 without faults, else 1. Linux only.
"""

import argparse
import contextlib
import gc
import importlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
# Set before torch and the Hub's client are loaded. Relative: each case has a cache in its own working folder.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": "cache", "TOKENIZERS_PARALLELISM": "false"}
os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}

from fuzzing import chats, child, foreign, inputs, quantised, sealed, verdict, workspace  # noqa: E402
from fuzzing.case import Kind  # noqa: E402

MODULES = (inputs, sealed, foreign, chats, quantised)
KINDS: dict[str, Kind] = {kind.name: kind for module in MODULES for kind in module.KINDS}


PROGRESS_SECONDS = 20


class Result(NamedTuple):
    """Result of a case."""

    kind: str
    number: int
    title: str
    command: str
    status: int | None
    seconds: float
    cpu_seconds: float
    peak_mib: float
    faults: list[verdict.Fault]


class Plan(NamedTuple):
    """State shared by all cases of a run."""

    pristine: Path
    seed: int
    limits: child.Limits
    verbose: bool = False


def run_case(plan: Plan, name: str, number: int) -> Result:
    """Make a case and run it."""
    kind = KINDS[name]
    rng = Random(f"{plan.seed} {name} {number}")
    with tempfile.TemporaryDirectory(prefix="case-", dir=plan.pristine.parent, ignore_cleanup_errors=True) as place:
        folder, logs = Path(place) / "work", Path(place) / "logs"
        logs.mkdir()
        shutil.copytree(plan.pristine, folder, symlinks=True)
        case = kind.make(rng, folder)
        before = verdict.snapshot(folder)
        outcome = child.run(case.call, folder, logs, plan.limits, case.environment, case.stdout)
        after = verdict.snapshot(folder)
    found = verdict.faults(outcome, before, after, changed_byte=case.changed_byte, by_command=case.by_command)
    if plan.verbose:
        print(f"{case.title}\n{case.command}\n--- standard output\n{outcome.out}--- standard error\n{outcome.err}---")
    return Result(
        name, number, case.title, case.command, outcome.status, outcome.seconds, outcome.cpu_seconds, outcome.peak_mib,
        found,
    )  # fmt: skip


def prepare(folder: Path) -> None:
    """Make the pristine folder in a child process, and import here the modules it imported, so that no case has to.

    Raises:
        SystemExit: A command failed on valid input.
    """
    logs = folder.parent / "making"
    logs.mkdir()

    def made() -> None:
        workspace.make(folder)
        (logs / "modules").write_text("\n".join(sys.modules))

    outcome = child.run(made, folder.parent, logs, child.Limits(600, 300, 4096))
    if outcome.status != 0:
        sys.exit(f"The folder from which all cases start could not be made:\n{outcome.out}\n{outcome.err}")
    for name in (logs / "modules").read_text().splitlines():
        if name not in sys.modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, all that the parent holds
    if threading.active_count() > 1:
        sys.exit("An imported module has started a thread, but a process that forks must have only one.")


def shares(kinds: Sequence[str], cases: int) -> list[tuple[str, int]]:
    """Cases of a run of a given length: numbered, by the shares of the kinds, in mixed order."""
    total = sum(KINDS[name].share for name in kinds)
    counts = {name: max(1, round(cases * KINDS[name].share / total)) for name in kinds}
    numbered = [(number / count, name, number) for name, count in counts.items() for number in range(count)]
    return [(name, number) for _, name, number in sorted(numbered)]


def _run(given: tuple[Plan, str, int]) -> Result:
    return run_case(*given)


def run_all(plan: Plan, cases: list[tuple[str, int]], processes: int) -> Iterator[Result]:
    """Run all cases, each in its own process, several in parallel."""
    given = [(plan, name, number) for name, number in cases]
    if processes == 1:
        yield from map(_run, given)
        return
    # Not a Pool: its processes are daemons, so that a case could not start data workers.
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as executor:
        for done in as_completed([executor.submit(_run, one) for one in given]):
            yield done.result()


def replay(result: Result, seed: int) -> str:
    """The command that reproduces a case."""
    return f"python scripts/fuzz.py --kind {json.dumps(result.kind)} --case {result.number} --seed {seed}"


def report(results: list[Result]) -> str:
    """Table with a line per kind: cases, exit statuses, faults, time."""
    by_kind: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_kind[result.kind].append(result)
        by_kind["all"].append(result)
    order = [*(name for name in KINDS if name in by_kind), "all"]
    head = ["kind", "cases", "ok", "failed", "refused", "gates", *verdict.FAULTS, "s/case", "MiB"]
    rows = [head]
    for name in order:
        found = by_kind[name]
        ends = Counter(result.status for result in found)
        counts = Counter(fault.kind for result in found for fault in result.faults)
        rows.append(
            [name, str(len(found)), *(str(ends[status]) for status in verdict.STATUSES)]
            + [str(counts[kind]) for kind in verdict.FAULTS]
            + [f"{sum(r.cpu_seconds for r in found) / len(found):.2f}", f"{max(r.peak_mib for r in found):.0f}"]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if column == 0 else cell.rjust(w)
            for column, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def progress(results: list[Result], total: int, seconds: float) -> str:
    """A line on how far a run is."""
    faults = sum(bool(result.faults) for result in results)
    rate = len(results) / seconds
    left = (total - len(results)) / rate / 60
    return f"{len(results):,} of {total:,} cases, {rate:.1f} a second, {faults} with faults, about {left:.0f} min left"


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="how many, over all kinds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other cases for another seed (default: %(default)s)")
    parser.add_argument("--kind", nargs="+", choices=list(KINDS), default=list(KINDS), help="these kinds alone")
    parser.add_argument("--case", type=int, help="run only this case of the kind and print its output")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at a time (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=child.Limits().seconds, help="limit (default: %(default)s)")
    parser.add_argument("--log", type=Path, help="write every result to this file, as JSON lines")
    given = parser.parse_args(arguments)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # copying there costs a tenth of a disk's
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as place:
        started = time.monotonic()
        pristine = Path(place) / "pristine"
        prepare(pristine)
        plan = Plan(pristine, given.seed, child.Limits(given.seconds), verbose=given.case is not None)
        if given.case is not None:
            cases = [(name, given.case) for name in given.kind]
        else:
            cases = shares(given.kind, given.cases)
        results: list[Result] = []
        said = began = time.monotonic()
        log = given.log.open("w") if given.log else contextlib.nullcontext()
        with log as file:
            for result in run_all(plan, cases, 1 if given.case is not None else given.processes):
                results.append(result)
                for fault in result.faults:
                    print(
                        f"{fault.kind}: {fault.evidence}\n    {result.title}\n    {replay(result, given.seed)}",
                        flush=True,
                    )
                if file is not None:
                    print(json.dumps(result._asdict()), file=file, flush=True)
                if time.monotonic() - said > PROGRESS_SECONDS:
                    said = time.monotonic()
                    print(progress(results, len(cases), said - began), file=sys.stderr, flush=True)
        print(f"\n{report(results)}\n{len(results)} cases in {time.monotonic() - started:.0f} s, seed {given.seed}")
    return 1 if any(result.faults for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
