"""`logos-pl doctor`: a summary of this machine, to paste into a bug report."""

import argparse
import json
import os
from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from logos_pl.cli.diagnosis import OPTIONAL, Diagnosis, Fit, diagnose
from logos_pl.cli.own_parser import OwnParser, importing, run_own
from logos_pl.io.terminal import Console, say

GIB = 2**30


def main(args: Sequence[str]) -> int:
    """Run the command.

    Args:
        args: Arguments after `logos-pl doctor`.

    Returns:
        Exit status: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C.
    """
    return run_own(lambda: _run(command_parser().checked(list(args))), "Interrupted.")


def command_parser() -> OwnParser:
    """Parser of the command."""
    parser = OwnParser("doctor")
    parser.add_argument("--json", action="store_true", help="print JSON, with memory in bytes")
    parser.add_argument("--online", action="store_true", help="also contact the Hub; otherwise the network is not used")
    return parser


def _run(given: argparse.Namespace) -> None:
    with importing():
        found = diagnose(given.online)
    if given.json:
        print(json.dumps(found.to_plain(), indent=1, ensure_ascii=True))
        return
    Console().print(screen(found))
    if not given.online:
        say("The Hub was not contacted; --online does so.")


def screen(found: Diagnosis) -> Table:
    """The data as a table of names and values."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, what in _lines(found):
        table.add_row(name, escape(what))
    return table


def _lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    commit = "" if found.commit is None else f" at {found.commit[:12]}{'-dirty' * found.commit.endswith('-dirty')}"
    yield "logos-pl", f"{found.versions['logos-pl']}{commit}"
    yield "Python", f"{found.python} on {found.system}, {found.cores} cores"
    shown = {name: of for name, of in found.versions.items() if name != "logos-pl" and (of or name not in OPTIONAL)}
    packages = [f"{name} {of or 'missing'}" for name, of in shown.items()]
    yield "packages", ", ".join(packages)
    for number, device in enumerate(found.devices):
        product = "" if device.product is None else f" ({device.product})"
        free = f"{_gib(device.free_bytes)} of {_gib(device.total_bytes)} free"
        yield "" if number else "devices", f"{device.name}{product}: {free}"
    if found.device_error is not None:
        yield "devices", f"cannot be queried: {found.device_error}"
        yield "memory", f"{_gib(found.host_free_bytes)} of {_gib(found.host_total_bytes)} free on the host"
    yield from _hub_lines(found)
    yield "switches", ", ".join(f"{name}={value}" for name, value in found.switches.items()) or "none set"
    yield from _fit_lines(found.fits)


def _hub_lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    hub = found.hub
    token = "no token (`hf auth login`)" if hub.token is None else f"a token from {_tilde(hub.token)}"
    yield "Hub", ", ".join([token, *(["offline mode"] if hub.offline else []), *([hub.answer] if hub.answer else [])])
    free = "" if hub.cache_free_bytes is None else f", {_gib(hub.cache_free_bytes)} free on its disk"
    yield "cache", f"{_tilde(hub.cache)}{free}"


def _fit_lines(fits: Sequence[Fit]) -> Iterator[tuple[str, str]]:
    """Which models fit where, according to the memory estimate."""
    places = [*dict.fromkeys(place for fit in fits for place in (fit.to_fit, fit.to_read) if place is not None)]
    for place in places:
        if named := _named(fit for fit in fits if fit.to_fit == place):
            yield "fits", f"to fit a lens, on {place}: {named}"
        if named := _named(fit for fit in fits if fit.to_read == place and fit.to_fit is None):
            yield "", f"only to read, on {place}: {named}"
    if named := _named(fit for fit in fits if fit.to_read is None):
        yield "", f"not at all: {named}"


def _named(fits: Iterator[Fit]) -> str:
    return ", ".join(fit.model_id.rpartition("/")[2] for fit in fits)


def _tilde(path: str) -> str:
    """A path with the home folder, which holds the user's name, as `~`."""
    home = os.path.expanduser("~")
    return f"~{path.removeprefix(home)}" if path.startswith(home + os.sep) else path


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:,.1f} GiB"
