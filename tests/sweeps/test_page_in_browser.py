"""The page in a real browser: what it shows comes from the records."""

import itertools
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from logos_pl.data.prompt_types import AnswerTokens
from logos_pl.sweeps.records import PromptRecords
from tests.sweeps.browser import (
    POSITIONS,
    ROWS,
    assert_detail,
    cell,
    find,
    grid_tokens,
    hover,
    numbers,
    open_page,
    press,
    record_at,
    shown,
    text,
    value,
)
from tests.sweeps.page_records import page_records, reached, write_page

pytestmark = pytest.mark.slow


def test_the_page_opens_at_the_models_own_reading_after_the_last_token(
    page: Chrome, records: list[PromptRecords]
) -> None:
    assert_detail(page, record_at(records[0], "norm", ROWS - 1, POSITIONS - 1))
    assert page.title.startswith("demo")


def test_pointing_at_a_cell_shows_its_ten_likeliest_tokens(page: Chrome, records: list[PromptRecords]) -> None:
    for row, pos in ((3, 2), (0, 1), (7, 6)):
        hover(page, cell(page, row, pos))
        assert_detail(page, record_at(records[0], "norm", row, pos))


def test_a_bar_is_as_long_as_its_probability(page: Chrome, records: list[PromptRecords]) -> None:
    hover(page, cell(page, 5, 2))
    widths = page.execute_script("return [...document.querySelectorAll('.bar i')].map((bar) => bar.style.width)")
    expected = [100 * top.p for top in record_at(records[0], "norm", 5, 2).top]
    assert [float(width.removesuffix("%")) for width in widths] == pytest.approx(expected, rel=1e-3)


def test_every_lens_shows_its_own_tokens_and_keeps_the_place(page: Chrome, records: list[PromptRecords]) -> None:
    hover(page, cell(page, 2, 3))
    for lens in ("tuned", "prism", "norm"):
        find(page, f"#lenses [data-name={lens}]").click()
        cells = iter(records[0].positions[lens])
        assert grid_tokens(page) == [[shown(next(cells).top[0].token) for _ in range(POSITIONS)] for _ in range(ROWS)]
        assert find(page, "#lenses [aria-pressed=true]").text == lens
        assert_detail(page, record_at(records[0], lens, 2, 3))


def test_another_prompt_brings_its_own_tokens(page: Chrome, records: list[PromptRecords]) -> None:
    Select(find(page, "#prompt")).select_by_visible_text("ctl · orig · Germany → Berlin")
    assert_detail(page, record_at(records[1], "norm", ROWS - 1, POSITIONS - 1))
    heads = [head.get_property("textContent") for head in page.find_elements(By.CSS_SELECTOR, "thead th bdi")]
    assert heads[:POSITIONS] == [shown(token) for token in records[1].tokens]
    find(page, "#previous").click()
    assert_detail(page, record_at(records[0], "norm", ROWS - 1, POSITIONS - 1))
    assert not find(page, "#previous").is_enabled()


def test_many_prompts_can_be_searched(chrome: Chrome, tmp_path: Path) -> None:
    records = [page_records(3, 2, prompt_id=f"fact{i:02}") for i in range(14)]
    open_page(chrome, write_page(tmp_path / "page.html", *records))
    find(chrome, "#filter").send_keys("FACT1")
    assert [option.text[:6] for option in Select(find(chrome, "#prompt")).options] == [f"fact1{i}" for i in range(4)]
    find(chrome, "#following").click()
    assert_detail(chrome, record_at(records[11], "norm", 2, 1))


def test_keys_move_the_focus_and_the_panel_follows(page: Chrome, records: list[PromptRecords]) -> None:
    page.execute_script("document.querySelector('td[tabindex=\"0\"]').focus()")
    row, pos = ROWS - 1, POSITIONS - 1
    moves = (
        (Keys.ARROW_LEFT, 0, -1), (Keys.ARROW_DOWN, -1, 0), (Keys.ARROW_DOWN, -1, 0), (Keys.ARROW_RIGHT, 0, 1),
        (Keys.ARROW_RIGHT, 0, 0), (Keys.ARROW_UP, 1, 0), (Keys.HOME, 0, -6), (Keys.PAGE_DOWN, -7, 0),
        (Keys.ARROW_DOWN, 0, 0), (Keys.END, 0, 6), (Keys.PAGE_UP, 8, 0),
    )  # fmt: skip
    for key, by_row, by_pos in moves:
        press(page, key)
        row, pos = row + by_row, pos + by_pos
        assert_detail(page, record_at(records[0], "norm", row, pos))
        assert page.switch_to.active_element == cell(page, row, pos)
    focusable = page.find_elements(By.CSS_SELECTOR, "#grid td[tabindex='0']")
    assert focusable == [cell(page, row, pos)]
    assert f"row {row}, position {pos}" in str(focusable[0].get_attribute("aria-label"))


def test_a_pinned_cell_stays_until_it_is_released(page: Chrome, records: list[PromptRecords]) -> None:
    pinned = record_at(records[0], "norm", 4, 3)
    cell(page, 4, 3).click()
    hover(page, cell(page, 1, 1))
    assert_detail(page, pinned)
    assert page.find_elements(By.CSS_SELECTOR, "td[aria-selected=true]") == [cell(page, 4, 3)]
    find(page, "#lenses [data-name=tuned]").click()
    assert_detail(page, record_at(records[0], "tuned", 4, 3))
    press(page, Keys.ESCAPE)
    assert page.find_elements(By.CSS_SELECTOR, "td[aria-selected=true]") == []
    hover(page, cell(page, 1, 1))
    assert_detail(page, record_at(records[0], "tuned", 1, 1))


def test_enter_pins_and_enter_again_or_the_button_releases(page: Chrome, records: list[PromptRecords]) -> None:
    page.execute_script("document.querySelector('td[tabindex=\"0\"]').focus()")
    press(page, Keys.ARROW_LEFT, Keys.ENTER, Keys.ARROW_LEFT)
    assert_detail(page, record_at(records[0], "norm", ROWS - 1, POSITIONS - 2))
    find(page, "#unpin").click()
    press(page, Keys.ARROW_LEFT)
    assert_detail(page, record_at(records[0], "norm", ROWS - 1, POSITIONS - 3))
    press(page, " ", " ", Keys.ARROW_LEFT)
    assert_detail(page, record_at(records[0], "norm", ROWS - 1, POSITIONS - 4))


def test_a_grid_that_scrolls_under_a_resting_pointer_does_not_change_the_panel(
    page: Chrome, records: list[PromptRecords]
) -> None:
    hover(page, cell(page, 5, 2))
    moved = """
        const [cell, screenX, screenY] = arguments;
        cell.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, screenX, screenY }));"""
    page.execute_script(moved, cell(page, 4, 1), 11, 12)
    page.execute_script(moved, cell(page, 3, 1), 11, 12)
    assert_detail(page, record_at(records[0], "norm", 4, 1))
    page.execute_script(moved, cell(page, 3, 1), 11, 13)
    assert_detail(page, record_at(records[0], "norm", 3, 1))


def test_what_really_comes_next_is_marked_among_the_tokens(page: Chrome, records: list[PromptRecords]) -> None:
    record, marks = records[0], set()
    for row, pos in itertools.product(range(ROWS), range(POSITIONS)):
        last = pos == POSITIONS - 1
        wanted = record.answer_tokens.first_id if last else record.ids[pos + 1]
        page.execute_script("show(...arguments)", row, pos)
        found = page.execute_script("return [...document.querySelectorAll('#top [data-hit]')].map((e) => e.innerText)")
        listed = [top for top in record_at(record, "norm", row, pos).top if top.id == wanted]
        assert len(found) == len(listed)
        assert all(line.split()[-3:-1] == ["answer" if last else "next", str(wanted)] for line in found)
        marks.add((last, bool(listed)))
    assert len(marks) == 4


def test_bold_is_what_the_last_row_puts_first_too(page: Chrome, records: list[PromptRecords]) -> None:
    bold = page.execute_script("return state.cells.map((cell) => getComputedStyle(cell).fontWeight === '700')")
    agrees = [
        record_at(records[0], "norm", row, pos).top[0].id == record_at(records[0], "norm", ROWS - 1, pos).top[0].id
        for row in reversed(range(ROWS))
        for pos in range(POSITIONS)
    ]
    assert bold == agrees
    assert not all(agrees)


def test_the_table_of_milestones_has_every_lens(page: Chrome, records: list[PromptRecords]) -> None:
    lines = {
        str(line.find_element(By.TAG_NAME, "th").get_property("textContent")): [
            str(part.get_property("textContent")) for part in line.find_elements(By.TAG_NAME, "td")
        ]
        for line in page.find_elements(By.CSS_SELECTOR, "#reached tbody tr")
    }
    by_lens = reached(records[0])

    def rows(name: str) -> list[str]:
        values = [getattr(by_lens[lens], name) for lens in ("norm", "tuned", "prism")]
        return ["–" if value is None else f"{value} ({100 * value / (ROWS - 1):.0f}%)" for value in values]

    assert lines["answer at rank ≤ 10"] == rows("first_rank_le_10")
    assert lines["KL(row ‖ final) < 1 bit"] == rows("first_kl_below_1_0")
    assert [line.split("%")[0] for line in lines["cosine to final ≥ 0.4"]] == ["3 (38"] * 3
    assert lines["L_copy"] == rows("L_copy") == ["2 (25%)"] * 3
    assert lines["L_copy_soft, k = 2"] == lines["L_copy_at, p > 0.70"] == ["–"] * 3
    assert lines["L_semantic − L_copy"] == [str(by_lens[lens].delta_layers) for lens in ("norm", "tuned", "prism")]
    assert len(lines) == 10 + 3 + 4 + 1


def test_row_heads_tell_the_answers_rank_and_what_is_reached(page: Chrome, records: list[PromptRecords]) -> None:
    rows = records[0].next_token["norm"]
    first = next(row.layer for row in rows if row.answer_rank == 1)
    for row in rows:
        head = find(page, f"#grid tbody tr:nth-child({ROWS - row.layer}) th")
        assert str(head.get_property("textContent")).endswith(f"#{row.answer_rank}")
        assert ("first answer at rank 1" in str(head.get_attribute("aria-label"))) == (row.layer == first)
        assert ("≤1" in head.text.split("\n")) == (row.layer == first)
        assert head.find_element(By.CSS_SELECTOR, ".rowhead > :last-child").value_of_css_property("font-weight") == (
            "700" if row.answer_rank == 1 else "400"
        )
        assert ("copy" in head.text.split("\n")) == (row.layer == 2)


def test_at_the_last_position_the_answers_numbers_are_shown(page: Chrome, records: list[PromptRecords]) -> None:
    hover(page, cell(page, 3, POSITIONS - 1))
    row, found = records[0].next_token["norm"][3], numbers(page, "#answer-numbers")
    assert value(found["rank of the answer"]) == row.answer_rank
    assert value(found["P(answer), first token"]) == float(f"{row.p_answer:.4g}")
    assert value(found["its logit minus the best other"]) == float(f"{row.answer_logit_gap:.4g}")
    assert value(found["entropy of the model"]) == 1.235
    hover(page, cell(page, 3, 0))
    assert list(numbers(page, "#answer-numbers")) == ["all other tokens"]


def test_an_unresolved_answer_has_no_rank(chrome: Chrome, tmp_path: Path) -> None:
    record = page_records(3, 2, ("norm",), answer_tokens=AnswerTokens("unresolved"))
    rows = [row._replace(answer_rank=None, p_answer=None) for row in record.next_token["norm"]]
    open_page(chrome, write_page(tmp_path / "page.html", record._replace(next_token={"norm": rows}), lenses=("norm",)))
    assert "has no rank" in text(chrome, "#answers")
    assert "rank of the answer" not in numbers(chrome, "#answer-numbers")
    assert "#" not in text(chrome, "#grid tbody th")


def test_the_chart_has_a_line_for_every_lens_with_its_values(page: Chrome, records: list[PromptRecords]) -> None:
    hover(page, cell(page, 2, 3))
    points = {
        lens: [
            float(point.split(" ")[1])
            for point in str(find(page, f"#chart [data-lens={lens}] path").get_attribute("d"))[1:].split("L")
        ]
        for lens in ("norm", "tuned", "prism")
    }
    zero = points["norm"][ROWS - 1]
    scales = [
        (zero - y) / record_at(records[0], lens, row, 3).kl_to_final_bits
        for lens, ys in points.items()
        for row, y in enumerate(ys[:-2])
    ]
    assert scales == pytest.approx([scales[0]] * len(scales), rel=0.05)
    assert len({find(page, f"#chart [data-lens={lens}]").value_of_css_property("color") for lens in points}) == 3
    assert "position 3" in text(page, "#chart-title")
