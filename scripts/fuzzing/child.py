"""Runs a call in a forked child process with limits on time and memory, and records its output and exit.

The parent has loaded the libraries once, so that a case costs milliseconds. It must have one thread: a lock that
another thread held at the fork would stay held in the child. Linux only (file descriptors of processes).
"""

import contextlib
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

Stdout = Literal["file", "full", "closed", "gone"]
"""Where standard output goes: a file, a full disk, a closed descriptor, or a broken pipe."""


class Limits(NamedTuple):
    """Limits beyond which a case counts as a hang or a memory blow-up.

    Attributes:
        seconds: Wall-clock time.
        cpu_seconds: CPU time of one process.
        memory_mib: Resident memory in addition to the parent's; twice as much address space.
    """

    seconds: float = 60.0
    cpu_seconds: int = 25
    memory_mib: int = 1024


class Outcome(NamedTuple):
    """How a child ended.

    Attributes:
        status: Exit status; None if it was ended by a signal.
        signal: That signal.
        timed_out: It was killed, or killed itself, because it took too long.
        peak_mib: Peak of resident memory, with the libraries.
        grown: The peak exceeds the limit.
        seconds: Wall-clock time.
        cpu_seconds: CPU time.
        out: Standard output.
        err: Standard error.
    """

    status: int | None
    signal: int | None
    timed_out: bool
    peak_mib: float
    grown: bool
    seconds: float
    cpu_seconds: float
    out: str
    err: str


def run(
    call: Callable[[], int | None],
    folder: Path,
    logs: Path,
    limits: Limits,
    environment: dict[str, str] | None = None,
    stdout: Stdout = "file",
) -> Outcome:
    """Run a call in a child process with working folder `folder`.

    Args:
        call: Returns an exit status, raises SystemExit, or anything else, which is then a traceback.
        folder: The child's working folder; its home is there, too.
        logs: Where standard output and error are kept.
        limits: Time and memory.
        environment: Variables set in the child alone.
        stdout: Where standard output goes.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = _resident_mib()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_child(call, folder, logs, limits, environment or {}, stdout)
    timed_out = not _ends_within(child, limits.seconds)
    if timed_out:
        _kill_group(child)
    _, code, usage = os.wait4(child, 0)
    _kill_group(child)  # whoever it started
    ended_by = os.WTERMSIG(code) if os.WIFSIGNALED(code) else None
    return Outcome(
        status=None if ended_by is not None else os.WEXITSTATUS(code),
        signal=ended_by,
        timed_out=timed_out or ended_by == signal.SIGXCPU,
        peak_mib=usage.ru_maxrss / 1024,
        grown=usage.ru_maxrss / 1024 > before + limits.memory_mib,
        seconds=time.monotonic() - started,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        out=_text(logs / "stdout"),
        err=_text(logs / "stderr"),
    )


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace") if path.exists() else ""


def _ends_within(child: int, seconds: float) -> bool:
    descriptor = os.pidfd_open(child)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _be_child(
    call: Callable[[], int | None],
    folder: Path,
    logs: Path,
    limits: Limits,
    environment: dict[str, str],
    stdout: Stdout,
) -> None:
    """Run everything in the child; does not return."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        # What starts further processes starts this script again: a name that cannot be run keeps it from doing so.
        sys.argv = ["/nonexistent/logos-pl"]
        os.environ.update({"HOME": str(folder / "home"), "TMPDIR": str(logs)} | environment)
        _redirect(logs, stdout)
        megabytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() // 2**20
        _limit(resource.RLIMIT_AS, (megabytes + 2 * limits.memory_mib) * 2**20)
        _limit(resource.RLIMIT_CPU, limits.cpu_seconds)
        _limit(resource.RLIMIT_FSIZE, 2**28)
        _limit(resource.RLIMIT_CORE, 0)
        status = call() or 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status & 255)


def _limit(what: int, most: int) -> None:
    resource.setrlimit(what, (most, most + 5))  # of CPU seconds, the hard limit kills what ignores the soft one


def _redirect(logs: Path, stdout: Stdout) -> None:
    """Standard streams of the child; Python's own objects keep their descriptors and take the new files."""
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    os.dup2(os.open(logs / "stderr", flags, 0o644), 2)
    if stdout == "gone":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    elif stdout == "closed":
        os.close(1)
    else:
        os.dup2(os.open("/dev/full" if stdout == "full" else logs / "stdout", flags, 0o644), 1)
    # Fresh objects: a buffer or an encoding that the parent had is not the child's.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = None if stdout == "closed" else open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
