"""A headless Chromium, with its console and its requests on record, and what a page shows in it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from logos_pl.sweeps.records import PositionRecord, PromptRecords

ROWS, POSITIONS = 9, 7
"""The size of the usual page of the tests."""

SHOWN_CHARACTERS = {
    "\n": "\\n",
    "\t": "\\t",
    "\u200b": "\\u200b",
    "\u202e": "\\u202e",
    "\\": "\\\\",
    "": "(empty)",
    "\u0301": "◌\u0301",
}

"""Tokens that cannot be seen, and what stands for them."""

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """A browser with a profile of its own; the test skips where there is no browser."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium or chromedriver is not installed: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = binary  # both paths are given: selenium looks for nothing and downloads nothing
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def resize(browser: Chrome, width: int, height: int = 900, scheme: str = "light") -> None:
    """Make the window `width` CSS pixels wide: narrower than a window manager would."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def console(browser: Chrome) -> list[str]:
    """What the console has said since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: Chrome) -> list[str]:
    """The addresses asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def open_page(chrome: Chrome, path: Path) -> None:
    """Load a page of the disk."""
    chrome.get(path.as_uri())


def shown(token: str) -> str:
    """How the page shows a token of the vocabulary."""
    return SHOWN_CHARACTERS.get(token) or token.replace(" ", "␣")


def find(chrome: Chrome, selector: str) -> WebElement:
    """The first element of a CSS selector."""
    return chrome.find_element(By.CSS_SELECTOR, selector)


def text(chrome: Chrome, selector: str) -> str:
    """All text of an element, hidden or cut off on the screen too."""
    return find(chrome, selector).get_property("textContent")


def cell(chrome: Chrome, row: int, pos: int, rows: int = ROWS) -> WebElement:
    """The cell of a row and a position; row n stands at the top."""
    return find(chrome, f"#grid tbody tr:nth-child({rows - row}) td:nth-of-type({pos + 1})")


def hover(chrome: Chrome, element: WebElement) -> None:
    """Point at an element."""
    ActionChains(chrome).move_to_element(element).perform()


def press(chrome: Chrome, *keys: str) -> None:
    """Press keys, wherever the focus is."""
    ActionChains(chrome).send_keys(*keys).perform()


def record_at(record: PromptRecords, lens: str, row: int, pos: int) -> PositionRecord:
    """The record of one cell."""
    return record.positions[lens][row * len(record.ids) + pos]


def grid_tokens(chrome: Chrome) -> list[list[str]]:
    """The text of all cells, rows 0 … n."""
    return chrome.execute_script(
        "return [...document.querySelector('#grid').tBodies[0].rows].reverse()"
        ".map((tr) => [...tr.cells].slice(1).map((td) => td.textContent))"
    )


def numbers(chrome: Chrome, selector: str) -> dict[str, str]:
    """A list of names and values, as text."""
    names, values = (
        [element.get_property("textContent") for element in chrome.find_elements(By.CSS_SELECTOR, f"{selector} {tag}")]
        for tag in ("dt", "dd")
    )
    return dict(zip(names, values, strict=True))


def value(shown_number: str) -> float:
    """The number in a text such as `−1.5 bits`."""
    return float(shown_number.replace("−", "-").split(" ")[0])


def assert_detail(chrome: Chrome, cell: PositionRecord) -> None:
    """The panel shows this cell, to four digits."""
    assert text(chrome, "#detail-title").startswith(f"Row {cell.layer}, position {cell.pos} ")
    assert text(chrome, "#detail-title bdi") == shown(cell.token)
    assert cell.lens in text(chrome, "#detail-line")
    found = numbers(chrome, "#numbers")
    for name, bits in (
        ("entropy", cell.entropy_bits),
        ("KL(row ‖ final)", cell.kl_to_final_bits),
        ("KL(final ‖ row)", cell.kl_from_final_bits),
    ):
        assert value(found[name]) == float(f"{bits:.4g}")
    lines = [
        [part.get_property("textContent") for part in line.find_elements(By.CSS_SELECTOR, "bdi, td.id, .bar")]
        for line in chrome.find_elements(By.CSS_SELECTOR, "#top tr")
    ]
    assert [(token, int(id_), value(p)) for token, id_, p in lines] == [
        (shown(top.token), top.id, float(f"{top.p:.4g}")) for top in cell.top
    ]
