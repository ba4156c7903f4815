"""The page in a real browser: it is readable, usable and safe."""

import itertools
from pathlib import Path

import matplotlib
import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from logos_pl.sweeps.records import NonFinite, PromptRecords
from tests.sweeps.browser import (
    POSITIONS,
    ROWS,
    cell,
    console,
    find,
    hover,
    numbers,
    open_page,
    press,
    record_at,
    requests,
    resize,
    shown,
    text,
)
from tests.sweeps.page_records import HOSTILE, VOCABULARY, page_records, write_page

pytestmark = pytest.mark.slow


def test_the_colour_follows_the_quantity(page: Chrome, records: list[PromptRecords]) -> None:
    def colour(bright: float) -> str:
        red, green, blue, _ = (round(255 * part) for part in matplotlib.colormaps["viridis"](round(255 * bright)))
        return f"rgb({red}, {green}, {blue})"

    kl = {"kl": lambda c: 1 - min(1.0, (c.kl_to_final_bits / 16) ** 0.5)}
    others = {"entropy": lambda c: 1 - c.entropy_bits / 16, "p": lambda c: c.top[0].p}
    for (name, bright), (row, pos) in itertools.product((kl | others).items(), ((0, 0), (4, 5), (8, 1))):
        find(page, f"#quantities [data-name={name}]").click()
        found = cell(page, row, pos)
        background = page.execute_script("return getComputedStyle(arguments[0]).backgroundColor", found)
        assert background == colour(bright(record_at(records[0], "norm", row, pos)))
    assert "probability" in text(page, "#legend-text")


def luminance(css: str) -> float:
    parts = [int(part) / 255 for part in css.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_every_colour(page: Chrome, scheme: str) -> None:
    resize(page, 1280, scheme=scheme)
    pairs = page.execute_script("""
        const cell = document.querySelector("td.cell");
        return Array.from({length: 256}, (_, i) => {
          cell.className = `cell c${i}`;
          const style = getComputedStyle(cell);
          return [style.backgroundColor, style.color];
        });""")
    for pair in pairs:
        dark, light = sorted(luminance(css) for css in pair)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_what_is_not_finite_is_named_and_hatched(chrome: Chrome, tmp_path: Path) -> None:
    record = page_records(4, 3, nonfinite=[NonFinite("norm", 1, 2)])
    open_page(chrome, write_page(tmp_path / "page.html", record))
    assert text(chrome, "#warning") == "Logits that are not finite: norm row 1 position 2."
    hover(chrome, cell(chrome, 1, 2, 4))
    assert numbers(chrome, "#numbers")["entropy"] == "not finite"
    assert chrome.find_elements(By.CSS_SELECTOR, "td.none") == [cell(chrome, 1, 2, 4)]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        *((token, shown(token)) for token in VOCABULARY),
        ("\u00a0", "\\xa0"), ("\u200d", "\\u200d"), ("\U000e0041", "\\U000e0041"), ("\r", "\\r"), ("\x00", "\\x00"),
        ("می\u200cخواهم", "می\u200cخواهم"), ("👩\u200d🚀", "👩\u200d🚀"), ("\ud800", "\\ud800"),
        ("a\u2028", "a\\u2028"),
    ],
)  # fmt: skip
def test_a_token_shows_all_of_its_characters(page: Chrome, token: str, expected: str) -> None:
    code = token.encode("utf-16-be", "surrogatepass")
    units = [int.from_bytes(code[i : i + 2], "big") for i in range(0, len(code), 2)]
    assert page.execute_script("return visible(String.fromCharCode(...arguments[0]))", units) == expected


def test_every_token_is_isolated_from_its_neighbours_direction(page: Chrome) -> None:
    assert len(page.find_elements(By.CSS_SELECTOR, "td.cell > bdi:only-child")) == ROWS * POSITIONS
    assert len(page.find_elements(By.CSS_SELECTOR, "thead th > bdi")) == POSITIONS
    assert len(page.find_elements(By.CSS_SELECTOR, "#top bdi")) == 10


def test_hostile_strings_are_shown_and_not_run(chrome: Chrome, tmp_path: Path) -> None:
    record = page_records(3, 2, vocabulary=(HOSTILE,) * 12, prompt_id=HOSTILE)
    prompt = record.prompt._replace(text=HOSTILE, answer=HOSTILE, contrast=HOSTILE, fact=HOSTILE)
    record = record._replace(prompt=prompt, answer_tokens=record.answer_tokens._replace(pieces=(HOSTILE,)))
    open_page(chrome, write_page(tmp_path / "page.html", record, name=HOSTILE))
    hover(chrome, cell(chrome, 1, 0, 3))
    assert chrome.execute_script("return window.pwned") is None
    assert chrome.execute_script("return document.querySelectorAll('img').length") == 0
    assert chrome.execute_script("return document.scripts.length") == 3
    for selector in ("#model", "td.cell", "#top bdi", "#asked", "#prompt option", "#answers bdi"):
        assert "<img" in text(chrome, selector)


def test_the_browser_runs_no_script_but_the_pages_own(chrome: Chrome, tmp_path: Path) -> None:
    path = write_page(tmp_path / "page.html", page_records(3, 2))
    path.write_text(path.read_text("utf-8").replace("<main", "<script>window.pwned = 1</script><main"), "utf-8")
    open_page(chrome, path)
    assert chrome.execute_script("return [window.pwned, state.data !== null]") == [None, True]
    (refusal,) = console(chrome)
    assert "Content Security Policy" in refusal


def test_the_page_asks_for_nothing_but_itself(chrome: Chrome, tmp_path: Path) -> None:
    path = write_page(tmp_path / "page.html", page_records(3, 2))
    open_page(chrome, path)
    hover(chrome, cell(chrome, 1, 1, 3))
    assert chrome.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    assert [url for url in requests(chrome) if url != "data:,"] == [path.as_uri()]


def test_a_page_without_prompts_says_so(chrome: Chrome, tmp_path: Path) -> None:
    open_page(chrome, write_page(tmp_path / "page.html"))
    assert text(chrome, "#asked") == "No prompt was read."
    assert not find(chrome, "#main").is_displayed()


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("size", [(33, 25), (5, 1)])
def test_only_the_grid_scrolls_sideways(chrome: Chrome, tmp_path: Path, width: int, size: tuple[int, int]) -> None:
    resize(chrome, width)
    record = page_records(*size, ("norm", "tuned", "prism"), prompt_id="a-rather-long-name-of-a-prompt " * 3)
    name = "A-model-with-a-name-longer-than-any-telephone-is-wide-24B-Instruct"
    open_page(chrome, write_page(tmp_path / "page.html", record, name=name, lenses=("norm", "tuned", "prism")))
    assert chrome.execute_script("return innerWidth") == width
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width


def test_heads_stay_in_sight_while_the_grid_scrolls(chrome: Chrome, tmp_path: Path) -> None:
    open_page(chrome, write_page(tmp_path / "page.html", page_records(81, 40, ("norm",)), lenses=("norm",)))
    chrome.execute_script("document.querySelector('#scroll').scrollTo(600, 700)")
    places = chrome.execute_script("""
        const box = (selector) => document.querySelector(selector).getBoundingClientRect();
        const [scroll, column, row] = ["#scroll", "thead th:nth-child(20)", "tbody tr:nth-child(50) th"].map(box);
        return [column.top - scroll.top, row.left - scroll.left];""")
    assert places == pytest.approx([1, 1], abs=1)


def in_sight(chrome: Chrome, element: WebElement) -> bool:
    """Whether nothing covers its middle."""
    return chrome.execute_script(
        "const box = arguments[0].getBoundingClientRect();"
        "return arguments[0].contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));",
        element,
    )


def test_a_long_prompt_opens_at_its_last_position(chrome: Chrome, tmp_path: Path) -> None:
    open_page(chrome, write_page(tmp_path / "page.html", page_records(33, 40, ("norm",)), lenses=("norm",)))
    assert in_sight(chrome, cell(chrome, 32, 39, 33))
    assert not in_sight(chrome, cell(chrome, 32, 0, 33))


def test_a_cell_reached_by_key_is_not_hidden_by_the_heads(chrome: Chrome, tmp_path: Path) -> None:
    open_page(chrome, write_page(tmp_path / "page.html", page_records(81, 40, ("norm",)), lenses=("norm",)))
    chrome.execute_script("document.querySelector('td[tabindex=\"0\"]').focus()")
    for key in (*[Keys.ARROW_LEFT] * 14, *[Keys.PAGE_DOWN] * 4, *[Keys.ARROW_UP] * 35, Keys.HOME):
        press(chrome, key)
        assert in_sight(chrome, chrome.switch_to.active_element)


def test_the_table_is_a_grid_with_heads_and_buttons_have_states(page: Chrome) -> None:
    assert find(page, "#grid").aria_role == "grid"
    assert find(page, "#grid tbody td").aria_role == "gridcell"
    assert find(page, "#grid tbody th").aria_role == "rowheader"
    assert find(page, "#grid thead th").aria_role == "columnheader"
    assert "9 rows of depth by 7 positions" in find(page, "#grid").accessible_name
    states = [button.get_attribute("aria-pressed") for button in page.find_elements(By.CSS_SELECTOR, "#lenses button")]
    assert states == ["true", "false", "false"]
    assert find(page, "#prompt").accessible_name == "Prompt (2)"
