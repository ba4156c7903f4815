"""The page in a real browser: tokens that are followed, found and compared."""

from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from logos_pl.data.prompt_types import AnswerTokens
from logos_pl.sweeps.records import NonFinite, PromptRecords
from tests.sweeps.browser import POSITIONS, ROWS, cell, find, hover, numbers, open_page, press, record_at, shown, text
from tests.sweeps.page_records import VOCABULARY, page_records, write_page

pytestmark = pytest.mark.slow

ANSWER = 3
"""Id of the answer's first token, which the made-up sweep follows."""


def follow(chrome: Chrome, id_: int, where: str = "#top") -> None:
    find(chrome, f"{where} [data-follow='{id_}']").click()


def followed(chrome: Chrome) -> dict[str, str]:
    """What is said of each followed token, by its text."""
    lines = chrome.find_elements(By.CSS_SELECTOR, "#followed li")
    return {str(line.find_element(By.TAG_NAME, "bdi").text): line.text.split("\n")[-1] for line in lines}


def said(chrome: Chrome, id_: int) -> str:
    return next(value for token, value in followed(chrome).items() if token == shown(VOCABULARY[id_]))


def points(chrome: Chrome, chart: str, id_: int, lens: str = "norm") -> list[tuple[float, float]]:
    """The points of a followed token's curve, on the screen."""
    path = str(find(chrome, f"{chart} [data-token='{id_}'][data-lens={lens}] path").get_attribute("d"))
    places = path.replace("M", "L").split("L")[1:]
    return [(float(place.split(" ")[0]), float(place.split(" ")[1])) for place in places]


def test_the_answer_is_followed_from_the_start_with_its_exact_rank_beyond_the_listed_tokens(
    page: Chrome, records: list[PromptRecords]
) -> None:
    ranks, p = records[0].followed.ranks["norm"], records[0].followed.p["norm"]
    for row, pos in ((ROWS - 1, POSITIONS - 1), (2, 3), (0, 0)):
        page.execute_script("show(...arguments)", row, pos)
        at = row * POSITIONS + pos
        assert said(page, ANSWER).endswith(f"rank {ranks[at][0]}, p {page_number(p[at][0])}")


def page_number(value: float) -> str:
    short = float(f"{value:.4g}")
    return f"{short:.3e}" if short < 0.001 else f"{short:.6g}"


def test_the_two_curves_have_a_point_for_every_row_and_every_position(
    page: Chrome, records: list[PromptRecords]
) -> None:
    page.execute_script("show(4, 2)")
    ranks = records[0].followed.ranks["norm"]
    rows = points(page, "#follow-rows", ANSWER)
    assert len(rows) == ROWS
    expected = [ranks[row * POSITIONS + 2][0] for row in range(ROWS)]
    assert order([y for _, y in rows]) == order(expected)
    positions = points(page, "#follow-positions", ANSWER)
    assert order([y for _, y in positions]) == order([ranks[4 * POSITIONS + pos][0] for pos in range(POSITIONS)])
    assert "position 2" in text(page, "#follow-rows-title")
    assert "row 4" in text(page, "#follow-positions-title")


def order(values: list[float]) -> list[int]:
    return sorted(range(len(values)), key=values.__getitem__)


def test_probability_is_drawn_in_proportion(page: Chrome, records: list[PromptRecords]) -> None:
    find(page, "#measures [data-name=p]").click()
    page.execute_script("show(4, 2)")
    p = [records[0].followed.p["norm"][row * POSITIONS + 2][0] for row in range(ROWS)]
    heights = [146 - y for _, y in points(page, "#follow-rows", ANSWER)]
    assert [height / max(heights) for height in heights] == pytest.approx([value / max(p) for value in p], abs=0.01)
    assert "Probability" in text(page, "#follow-rows-title")


def test_a_listed_token_is_followed_where_it_is_listed_and_said_to_be_behind_the_others_elsewhere(
    page: Chrome, records: list[PromptRecords]
) -> None:
    listed = record_at(records[0], "norm", 5, 2).top
    token = next(top for top in listed if top.id not in records[0].followed.ids)
    hover(page, cell(page, 5, 2))
    follow(page, token.id)
    assert f"rank {1 + listed.index(token)}, p " in said(page, token.id)
    row = next(row for row in range(ROWS) if token.id not in [t.id for t in record_at(records[0], "norm", row, 2).top])
    page.execute_script("show(arguments[0], 2)", row)
    last = record_at(records[0], "norm", row, 2).top[-1]
    assert f"not among the 10 likeliest, p ≤ {page_number(last.p)}" in said(page, token.id)
    there = sum(token.id in [t.id for t in record_at(records[0], "norm", r, 2).top] for r in range(ROWS))
    marks = page.find_elements(By.CSS_SELECTOR, f"#follow-rows [data-token='{token.id}'] .beyond")
    assert len(marks) == ROWS - there
    assert len(points(page, "#follow-rows", token.id)) == there


def test_cells_that_list_a_followed_token_are_marked(page: Chrome, records: list[PromptRecords]) -> None:
    marked = page.execute_script("return state.cells.map((cell) => cell.classList.contains('f0'))")
    expected = [
        ANSWER in [top.id for top in record_at(records[0], "norm", row, pos).top]
        for row in reversed(range(ROWS))
        for pos in range(POSITIONS)
    ]
    assert marked == expected
    assert any(expected)
    assert not all(expected)


def test_no_more_than_four_tokens_are_followed_and_a_button_lets_one_go(page: Chrome) -> None:
    ids = page.execute_script(
        "return [...document.querySelectorAll('#top [data-follow]')].map((b) => b.dataset.follow)"
    )
    for id_ in [id_ for id_ in map(int, ids) if id_ != ANSWER][:3]:
        follow(page, id_)
    assert len(followed(page)) == 4
    free = page.find_elements(By.CSS_SELECTOR, "#top [data-follow][aria-pressed=false]")
    assert [button.is_enabled() for button in free] == [False] * len(free)
    follow(page, ANSWER, "#followed")
    assert shown(VOCABULARY[ANSWER]) not in followed(page)
    assert find(page, "#top [data-follow][aria-pressed=false]").is_enabled()


def test_the_key_f_follows_the_top_token_of_a_cell_and_the_page_says_so(
    page: Chrome, records: list[PromptRecords]
) -> None:
    wanted = next(
        (row, pos) for row in range(ROWS) for pos in range(POSITIONS)
        if record_at(records[0], "norm", row, pos).top[0].id != ANSWER
    )  # fmt: skip
    page.execute_script("focusCell(cellAt(...arguments))", *wanted)
    press(page, "f")
    name = shown(record_at(records[0], "norm", *wanted).top[0].token)
    assert name in followed(page)
    assert text(page, "#said").startswith(f"Following {name}: ")
    press(page, "f")
    assert name not in followed(page)


def test_a_choice_of_tokens_stays_with_the_next_prompt(page: Chrome) -> None:
    follow(page, 5, "#top") if page.find_elements(By.CSS_SELECTOR, "#top [data-follow='5']") else page.execute_script(
        "toggleToken(5)"
    )
    find(page, "#following").click()
    assert list(followed(page)) == [shown(VOCABULARY[ANSWER]), shown(VOCABULARY[5])]


def test_without_a_resolved_answer_nothing_is_followed_at_first(chrome: Chrome, tmp_path: Path) -> None:
    record = page_records(3, 2, ("norm",), answer_tokens=AnswerTokens("unresolved"))
    open_page(chrome, write_page(tmp_path / "page.html", record, lenses=("norm",)))
    assert followed(chrome) == {}
    assert find(chrome, "#follow-empty").is_displayed()
    assert not find(chrome, "#follow-charts").is_displayed()


def test_logits_that_are_not_finite_have_no_rank(chrome: Chrome, tmp_path: Path) -> None:
    record = page_records(3, 2, ("norm",), nonfinite=[NonFinite("norm", 1, 1)])
    ranks = {"norm": [(None, None) if i == 3 else cell for i, cell in enumerate(record.followed.ranks["norm"])]}
    broken = record._replace(followed=record.followed._replace(ranks=ranks, p={"norm": [(0.1, 0.1)] * 6}))
    open_page(chrome, write_page(tmp_path / "page.html", broken, lenses=("norm",)))
    chrome.execute_script("show(1, 1)")
    assert said(chrome, ANSWER).endswith("not finite")
    assert len(points(chrome, "#follow-rows", ANSWER)) == 2


# Search


def test_the_search_finds_every_listed_token_and_leads_to_its_best_place(
    page: Chrome, records: list[PromptRecords]
) -> None:
    find(page, "#search").send_keys("BERLIN")
    cells = [(c.layer, c.pos, [t.id for t in c.top].index(ANSWER) + 1) for c in records[0].positions["norm"]
             if ANSWER in [t.id for t in c.top]]  # fmt: skip
    best = min(rank for *_, rank in cells)
    assert text(page, "#found-line") == "1 token"
    line = text(page, "#found li")
    assert f"id {ANSWER} · best rank {best} " in line
    assert line.endswith(f"{len(cells)} cells")
    find(page, "#found .go").click()
    place = page.execute_script("return [state.row, state.pos, state.pinned]")
    assert [*place] in [[row, pos, True] for row, pos, rank in cells if rank == best]
    assert page.switch_to.active_element == cell(page, *place[:2])


def test_a_search_shows_no_more_than_thirty_tokens_and_says_how_many_there_are(chrome: Chrome, tmp_path: Path) -> None:
    words = tuple(f" word{i}" for i in range(80))
    open_page(
        chrome, write_page(tmp_path / "page.html", page_records(9, 7, ("norm",), vocabulary=words), lenses=("norm",))
    )
    find(chrome, "#search").send_keys("word")
    found = int(text(chrome, "#found-line").split(" ")[0])
    assert found > 30
    assert text(chrome, "#found-line") == f"{found} tokens, the first 30 shown"
    assert len(chrome.find_elements(By.CSS_SELECTOR, "#found li")) == 30
    find(chrome, "#search").send_keys("zzz")
    assert text(chrome, "#found-line") == "0 tokens"


def test_the_focus_stays_on_the_button_that_is_pressed(page: Chrome) -> None:
    find(page, "#search").send_keys("berlin")
    button = find(page, f"#found [data-follow='{ANSWER}']")
    page.execute_script("arguments[0].focus()", button)
    press(page, Keys.ENTER)
    focused = page.switch_to.active_element
    assert (focused.get_attribute("data-follow"), focused.get_attribute("aria-pressed")) == (str(ANSWER), "false")


# Two lenses


def compare(chrome: Chrome, lens: str = "tuned") -> None:
    find(chrome, f"#others [data-name={lens}]").click()


def texts(chrome: Chrome, grid: str) -> list[list[str]]:
    return chrome.execute_script(
        "return [...document.getElementById(arguments[0]).tBodies[0].rows].reverse()"
        ".map((tr) => [...tr.cells].slice(1).map((td) => td.textContent))",
        grid,
    )


def test_two_lenses_stand_side_by_side_with_their_difference(page: Chrome, records: list[PromptRecords]) -> None:
    compare(page)
    for grid, lens in (("grid", "norm"), ("grid-other", "tuned")):
        expected = [
            [shown(record_at(records[0], lens, row, pos).top[0].token) for pos in range(POSITIONS)]
            for row in range(ROWS)
        ]
        assert texts(page, grid) == expected
    for row, line in enumerate(texts(page, "grid-difference")):
        for pos, number in enumerate(line):
            first, second = (record_at(records[0], lens, row, pos).kl_to_final_bits for lens in ("norm", "tuned"))
            assert float(number.replace("−", "-")) == pytest.approx(second - first, abs=0.051)
    assert text(page, "#grid-difference-title") == "tuned lens minus norm lens"
    lefts = page.execute_script(
        "return [...document.querySelectorAll('.grids figure')].map((f) => f.getBoundingClientRect().left)"
    )
    assert lefts == sorted(lefts)
    assert len(set(lefts)) == 3


def test_the_panel_has_both_lenses_and_the_change(page: Chrome, records: list[PromptRecords]) -> None:
    compare(page)
    page.execute_script("show(3, 2)")
    first, second = (record_at(records[0], lens, 3, 2).entropy_bits for lens in ("norm", "tuned"))
    before, after = numbers(page, "#numbers")["entropy"].split(" → ")
    assert float(before) == float(f"{first:.4g}")
    assert float(after.split(" ")[0]) == float(f"{second:.4g}")
    change = after.rsplit("(", 1)[1].removesuffix(")").replace("−", "-")
    assert float(change) == pytest.approx(second - first, rel=0.01, abs=1e-3)
    other = [e.text for e in page.find_elements(By.CSS_SELECTOR, "#top-other bdi")]
    assert other == [shown(top.token) for top in record_at(records[0], "tuned", 3, 2).top]


def test_a_followed_token_has_a_curve_for_both_lenses(page: Chrome, records: list[PromptRecords]) -> None:
    compare(page)
    assert (
        len(points(page, "#follow-rows", ANSWER, "norm")) == len(points(page, "#follow-rows", ANSWER, "tuned")) == ROWS
    )
    assert points(page, "#follow-rows", ANSWER, "norm") != points(page, "#follow-rows", ANSWER, "tuned")


def test_a_lens_is_not_compared_with_itself_and_the_two_change_places(page: Chrome) -> None:
    assert not find(page, "#others [data-name=norm]").is_enabled()
    compare(page)
    find(page, "#lenses [data-name=tuned]").click()
    assert page.execute_script("return [state.lens, state.other]") == ["tuned", "norm"]
    assert text(page, "#grid-difference-title") == "norm lens minus tuned lens"
    find(page, "#others [data-name=none]").click()
    assert not find(page, "#grid-other").is_displayed()


def test_a_cell_of_any_of_the_tables_shows_and_pins_its_place_in_all(page: Chrome) -> None:
    compare(page)
    find(page, f"#grid-difference tbody tr:nth-child({ROWS - 4}) td:nth-of-type(3)").click()
    assert text(page, "#detail-title").startswith("Row 4, position 2 ")
    selected = page.find_elements(By.CSS_SELECTOR, "td[aria-selected=true]")
    assert len(selected) == 3
    press(page, Keys.ARROW_DOWN)
    focused = page.switch_to.active_element
    assert focused.find_element(By.XPATH, "ancestor::table").get_attribute("id") == "grid-difference"
    assert "row 3, position 2" in str(focused.get_attribute("aria-label"))


def test_the_tables_scroll_together(chrome: Chrome, tmp_path: Path) -> None:
    open_page(chrome, write_page(tmp_path / "page.html", page_records(81, 40)))
    compare(chrome)
    chrome.execute_script("document.getElementById('grid').parentNode.scrollTo(300, 500)")
    tops = chrome.execute_async_script(
        "const done = arguments[0]; setTimeout(() => done(shownGrids().map(({ id }) =>"
        " [at(id).parentNode.scrollTop, at(id).parentNode.scrollLeft])), 300)"
    )
    assert tops == [[500, 300]] * 3


def test_a_page_of_one_lens_offers_no_comparison(chrome: Chrome, tmp_path: Path) -> None:
    open_page(chrome, write_page(tmp_path / "page.html", page_records(3, 2, ("norm",)), lenses=("norm",)))
    assert not find(chrome, "#others").is_displayed()
