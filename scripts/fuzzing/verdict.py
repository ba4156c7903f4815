"""Promises for any input: our own exit status, one clear sentence, and nothing raw, hung, half-written or lost."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fuzzing.child import Outcome

STATUSES = (0, 1, 2, 3)
"""Exit statuses: success, failure, bad input, failed gate."""
MOST_CHARACTERS = 600
"""Maximum length of the last line on standard error."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
NO_MEMORY = re.compile(r"MemoryError|bad_alloc|can't allocate memory|Cannot allocate memory")
KEPT = re.compile(r"\.replaced-\d{8}-\d{4}(-\d+)?(?=/|$)")
LEFTOVERS = re.compile(r"\..*\.(?:partial|new|old)|.*\.partial")

FAULTS = {
    "traceback": "a traceback",
    "hang": "longer than the limit of time",
    "signal": "ended by a signal",
    "memory": "more than the limit of memory",
    "accepted": "a changed byte of a hashed file was accepted",
    "status": "an exit status that is none of ours",
    "control": "raw control characters in the output",
    "sentence": "no sentence of logos-pl at the end of standard error",
    "long": f"a sentence of more than {MOST_CHARACTERS} characters",
    "noise": "lines on standard error that are not of logos-pl",
    "leftover": "something half-written, or an empty folder after a refusal",
    "altered": "a file that was given is gone or another one after a refusal",
}
"""Each kind of fault, and what it is."""


class Fault(NamedTuple):
    """One broken promise: its kind, a key of `FAULTS`, and the evidence in a line."""

    kind: str
    evidence: str


class Snapshot(NamedTuple):
    """Snapshot of a folder: every entry with its type and contents, and the empty folders."""

    entries: dict[str, tuple[int, bytes | str]]
    empty: frozenset[str]


def snapshot(folder: Path) -> Snapshot:
    """Take a snapshot of a folder without following links."""
    entries: dict[str, tuple[int, bytes | str]] = {}
    empty = set()
    for place, folders, files in os.walk(folder):
        if not folders and not files:
            empty.add(os.path.relpath(place, folder))
        for name in (*folders, *files):
            path = os.path.join(place, name)
            entries[os.path.relpath(path, folder)] = _content(Path(path))
    return Snapshot(entries, frozenset(empty))


def _content(path: Path) -> tuple[int, bytes | str]:
    found = path.lstat()
    content: bytes | str = b""
    if stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        content = path.read_bytes() if found.st_size < 2**24 else str(found.st_size)
    return stat.S_IFMT(found.st_mode), content


def faults(outcome: Outcome, before: Snapshot, after: Snapshot, *, changed_byte: bool, by_command: bool) -> list[Fault]:
    """All promises that a case broke.

    Args:
        outcome: How its process ended.
        before: Its folder before the command.
        after: Its folder after it.
        changed_byte: A byte of a hashed file was changed, so the command must refuse.
        by_command: It went through the command line, which makes promises on messages.
    """
    found = list(_ending(outcome))
    if changed_byte and outcome.status in (0, 3):
        found.append(Fault("accepted", f"exit status {outcome.status}"))
    if by_command and not found:
        found += _said(outcome)
    if not outcome.timed_out:
        found += _left(outcome, before, after)
    return found


def _ending(outcome: Outcome) -> Iterator[Fault]:
    """Keep only the most serious fault, as those after a hang or a signal add nothing."""
    both = outcome.out + outcome.err
    if outcome.timed_out:
        yield Fault("hang", f"{outcome.seconds:.0f} s, {outcome.cpu_seconds:.0f} s of CPU, {_last_line(outcome.err)}")
    elif outcome.grown or NO_MEMORY.search(both):
        yield Fault("memory", f"{outcome.peak_mib:.0f} MiB, {_last_line(outcome.err)}")
    elif outcome.signal is not None:
        yield Fault("signal", f"signal {outcome.signal}, {_last_line(outcome.err)}")
    elif "Traceback" in both or "Exception ignored in" in both or "unforeseen" in both:
        yield Fault("traceback", _traceback(both))
    elif outcome.status not in STATUSES:
        yield Fault("status", f"exit status {outcome.status}, {_last_line(outcome.err)}")


def _said(outcome: Outcome) -> Iterator[Fault]:
    for name, text in (("standard output", outcome.out), ("standard error", outcome.err)):
        if raw := CONTROL.search(text):
            around = text[max(0, raw.start() - 40) : raw.end() + 20]
            yield Fault("control", f"{around!r} on {name}")
    if outcome.status == 0:
        return
    last = _last_line(outcome.err)
    if not last.startswith("logos-pl: ") or len(last) < 20:
        yield Fault("sentence", last)
        return
    if len(last) > MOST_CHARACTERS:
        yield Fault("long", f"{len(last)} characters: {last[:120]} …")
    strange = [line for line in outcome.err.splitlines() if line.strip() and not line.startswith("logos-pl: ")]
    if strange:
        yield Fault("noise", strange[0])


def _left(outcome: Outcome, before: Snapshot, after: Snapshot) -> Iterator[Fault]:
    made = after.entries.keys() - before.entries.keys()
    halves = sorted(path for path in made if LEFTOVERS.fullmatch(os.path.basename(path)))
    if halves:
        yield Fault("leftover", halves[0])
    if outcome.status not in (1, 2):
        return
    if outcome.status == 2 and (folders := sorted(after.empty & made)):
        yield Fault("leftover", f"empty folder {folders[0]}")
    # In the log folder a new sweep renames an earlier one before anything can fail. A fit of several models keeps the
    # lens it replaces under a dated name beside the new one, and may be refused for another of them.
    kept = {
        KEPT.sub("", path): facts for path, facts in after.entries.items()
        if (dated := KEPT.search(path)) and path[: dated.start()] in after.entries
    }  # fmt: skip
    lost = sorted(
        path for path, facts in before.entries.items()
        if facts not in (after.entries.get(path), kept.get(path))
        and not path.startswith(("lightning_logs/sweeps", "home", "cache"))
    )  # fmt: skip
    if lost:
        yield Fault("altered", lost[0])


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "(nothing on standard error)"


def _traceback(text: str) -> str:
    """The exception and the innermost line in our code."""
    lines = text.splitlines()
    raised = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(?:: |:?$)", line) or "unforeseen" in line]
    places = re.findall(r'File "[^"]*/(logos_pl/[^"]+)", line (\d+)', text)
    where = f" at {places[-1][0]}:{places[-1][1]}" if places else ""
    return f"{(raised or ['?'])[-1][:200]}{where}"
