#!/usr/bin/env python3
"""Set up and run, from a fresh checkout, with nothing but Python 3.11 or later.

    python3 dev.py demo    set up, then fit a tuned lens on the bundled demo (offline)
    python3 dev.py test    set up, then run the tests (--all: the long ones, too; further arguments go to pytest)
    python3 dev.py lint    set up, then formatter, linter, floors and type checker
    python3 dev.py docs    set up, then execute the notebooks and build the documentation into build/site
    python3 dev.py check   test and lint
    python3 dev.py versions oldest|newest    in an environment of its own, for a while: the wheel and the suite's core
                           with the oldest or newest packages that pyproject.toml allows (see --help)

Set-up makes `.venv` beside this file and installs the exact versions of `requirements.lock`; it is skipped where
nothing has changed since the last time.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where one command at a time has to do
    fcntl = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PIP = (BIN / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check")
TORCH = "torch==2.13.0"  # asked for by exact version and first: any other request may bring gigabytes of CUDA packages


def run(*command: str | Path) -> None:
    """Run a command in the checkout and end with its status if it fails."""
    status = subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode
    if status != 0:
        sys.exit(status)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the lock of the set-up: a second command waits for the first, whose environment it would clear."""
    if fcntl is None:
        yield
        return
    with (ROOT / ".venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another dev.py that is setting up .venv …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up() -> None:
    """Make the virtual environment, unless it stands as the lock file says."""
    recipe = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "requirements.lock", "dev.py"))
    wanted, stamp = hashlib.sha256(recipe).hexdigest(), VENV / "set-up"
    if stands(stamp, wanted):
        return
    with one_at_a_time():
        if not stands(stamp, wanted):  # the command that was waited for may have done it
            make(stamp, wanted)


def stands(stamp: Path, wanted: str) -> bool:
    """Whether the environment is that of this recipe."""
    return stamp.is_file() and stamp.read_text() == wanted


def make(stamp: Path, wanted: str) -> None:
    """Make the virtual environment anew, and leave the stamp when it stands."""
    print("Setting up .venv (a few minutes the first time) …", flush=True)
    run(sys.executable, "-m", "venv", "--clear", VENV)
    print("  1 of 3: torch …", flush=True)
    run(*PIP, TORCH)
    print("  2 of 3: what requirements.lock lists …", flush=True)
    run(*PIP, "--requirement", "requirements.lock")
    print("  3 of 3: logos-pl itself …", flush=True)
    run(*PIP, "--no-deps", "--no-build-isolation", "--editable", ".")
    stamp.write_text(wanted)


def test(*arguments: str) -> None:
    """The test suite, a process per core; one thread in each, so that they don't wait for each other.

    Files go to the processes in their order: pytest-xdist would take those with the fewest tests last, which are the
    long fits, and one process would end alone.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    shares = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
    which = [word for word in arguments if word != "--all"] if arguments else ["-m", "not slow"]
    run(BIN / "python", "-m", "pytest", *shares, *which)


def lint() -> None:
    """Formatter, linter, floors, types."""
    run(BIN / "ruff", "format", "--check", ".")
    run(BIN / "ruff", "check", ".")
    run(BIN / "lint-imports")
    run(BIN / "mypy", "logos_pl", "tests", "scripts", "examples", "benchmarks", "dev.py", "hatch_build.py")


def docs() -> None:
    """The notebooks, executed on the demo, and the documentation site; warnings are errors."""
    recipe = (ROOT / "requirements-docs.lock").read_bytes()
    wanted, stamp = hashlib.sha256(recipe).hexdigest(), VENV / "set-up-docs"
    if not stands(stamp, wanted):
        print("Installing what builds the documentation …", flush=True)
        run(*PIP, "--no-deps", "--requirement", "requirements-docs.lock")
        stamp.write_text(wanted)
    run(BIN / "python", "-m", "scripts.site_pages.notebooks", "build/notebooks")
    run(BIN / "python", "-m", "mkdocs", "build", "--strict")


def main() -> None:
    """Do what the first argument says."""
    command, *rest = sys.argv[1:] or ["help"]
    if command not in {"demo", "test", "lint", "check", "docs", "versions"}:
        sys.exit(__doc__)
    if sys.version_info < (3, 11):  # noqa: UP036  (this file also has to say so to an older Python)
        sys.exit(f"logos-pl needs Python 3.11 or later, and this is {sys.version.split()[0]}.")
    if command == "versions":  # its environments are its own
        run(sys.executable, "-m", "scripts.versions", *rest)
        return
    set_up()
    if command == "demo":
        run(BIN / "logos-pl", "fit", "--config", "configs/demo.yaml", *rest)
        program = (BIN / "logos-pl").relative_to(ROOT)
        print(f'\nNow read with it: {program} read "The capital of Germany is" --answer Berlin --html page.html')
    if command in {"test", "check"}:
        test(*rest)
    if command in {"lint", "check"}:
        lint()
    if command == "docs":
        docs()


if __name__ == "__main__":
    main()
