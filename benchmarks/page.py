"""How fluent the page of a sweep is in Chromium: `python -m benchmarks.page [--prompts 60 --rows 81 --positions 24]`.

Writes a page of made-up readings under three lenses, opens it in a headless Chromium (which must be installed, with its
driver, and selenium) and prints medians of what a reader waits for between an action and the next painted frame: by the
wall clock, and as CPU time of the page's main thread, which a busy machine does not change.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from selenium.webdriver import Chrome

from benchmarks.machine import load_average
from benchmarks.report import table
from logos_pl.sweeps.page import PageWriter
from tests.sweeps.browser import chromium, resize
from tests.sweeps.page_records import COMMAND, page_records

LENSES = ("norm", "tuned", "prism")
MADE = 3
"""Different prompts; the page repeats them under other names."""

ACTIONS = {
    "point at a cell": "show(i % about.num_blocks, i % width())",
    "move by a key": "focusCell(cellAt(i % about.num_blocks, i % width()))",
    "another lens": "chooseLens(about.lenses[i % 2])",
    "another colour": "chooseQuantity(Object.keys(QUANTITIES)[i % 3])",
    "follow a token": "toggleToken(reading().top_ids[1])",
    "type in the search": "at('search').value = 'in'.slice(0, 1 + (i % 2)); fillFound()",
    "another prompt": "openPrompt(i % sources.length)",
    "compare two lenses": "chooseOther(i % 2 ? NO_LENS : 'prism')",
    "another prompt, compared": "state.other = 'prism'; openPrompt(i % sources.length)",
    "the view as SVG": "svgText()",
}
"""What a reader does, as the page's own functions; `i` counts."""

IN_A_FRAME = """
    const [work, i, done] = arguments;
    const act = new Function("i", work);
    requestAnimationFrame(() => {
      const start = performance.now();
      act(i);
      requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
    });
"""


def main(arguments: list[str] | None = None) -> None:
    """Write the page, use it, and print the times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.splitlines()[0])
    for name, default in (("prompts", 60), ("rows", 81), ("positions", 24), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args(arguments)
    load = load_average()
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder) / "profile") as browser:
        path = Path(folder) / "page.html"
        seconds = write(path, given.prompts, given.rows, given.positions)
        megabytes = path.stat().st_size / 1e6
        print(
            f"{given.prompts} prompts × {given.rows} rows × {given.positions} positions × {len(LENSES)} lenses: "
            f"{megabytes:.0f} MB, written in {seconds:.1f} s of CPU time; load average {load:.0f}."
        )
        print(table(["what", "ms", "ms of the main thread"], measure(browser, path, given.repeats)))


def write(path: Path, num_prompts: int, num_rows: int, num_positions: int) -> float:
    """Write the page; returns the seconds of CPU time that its writer took."""
    made = [page_records(num_rows, num_positions, LENSES, prompt_id=f"p{i}") for i in range(MADE)]
    start = time.process_time()
    with PageWriter(path, "made-up", LENSES, num_rows - 1, COMMAND) as page:
        for i in range(num_prompts):
            record = made[i % MADE]
            page.add(record._replace(prompt=record.prompt._replace(prompt_id=f"p{i}")), {})
    return time.process_time() - start


def measure(browser: Chrome, path: Path, repeats: int) -> list[list[str]]:
    """Action, milliseconds by the wall clock and of the main thread, medians."""
    resize(browser, 1440)
    browser.set_script_timeout(60)
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    loads = []
    for _ in range(3):
        browser.get("about:blank")
        start = time.perf_counter()
        browser.get(path.as_uri())
        loads.append(1000 * (time.perf_counter() - start))
    lines = [["load, until the first table stands", f"{statistics.median(loads):,.0f}", ""]]
    for what, work in ACTIONS.items():
        lines.append(timed(browser, what, partial(browser.execute_async_script, IN_A_FRAME, work), repeats))
    return lines


def timed(browser: Chrome, what: str, act: Callable[[int], object], repeats: int) -> list[str]:
    """Medians of an action."""
    wall, cpu = [], []
    for i in range(repeats):
        before, start = main_thread_seconds(browser), time.perf_counter()
        act(i)
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (main_thread_seconds(browser) - before))
    return [what, *(f"{statistics.median(times):,.0f}" for times in (wall, cpu))]


def main_thread_seconds(browser: Chrome) -> float:
    """CPU time of the tasks of the page's main thread so far."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return {metric["name"]: float(metric["value"]) for metric in metrics}["TaskDuration"]


if __name__ == "__main__":
    main()
