"""The page in a real browser: links, commands and pictures of a view, light and dark, and what a screen reader gets."""

import base64
import shlex
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib.image
import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from logos_pl.data.prompt_types import Message, Place
from logos_pl.sweeps.records import PromptRecords
from tests.sweeps.browser import POSITIONS, ROWS, assert_detail, cell, find, open_page, press, record_at, resize, text
from tests.sweeps.page_records import COMMAND, HOSTILE, page_records, write_page

pytestmark = pytest.mark.slow

CONTROLS = ("button", "combobox", "searchbox", "textbox", "grid", "image", "img")
SVG = "{http://www.w3.org/2000/svg}"


def fragment(chrome: Chrome) -> str:
    chrome.execute_script("writeView()")
    return str(chrome.execute_script("return location.hash"))


def view(chrome: Chrome) -> dict[str, Any]:
    return chrome.execute_script(
        "const { index, lens, other, quantity, row, pos, pinned, tokens, by, theme } = state;"
        "return { index, lens, other, quantity, row, pos, pinned, tokens, by, theme };"
    )


# Links


def test_a_link_brings_back_the_whole_view(page: Chrome, records: list[PromptRecords], tmp_path: Path) -> None:
    find(page, "#following").click()
    find(page, "#lenses [data-name=tuned]").click()
    find(page, "#others [data-name=prism]").click()
    find(page, "#quantities [data-name=entropy]").click()
    find(page, "#measures [data-name=p]").click()
    find(page, "#themes [data-name=dark]").click()
    page.execute_script("toggleToken(5)")
    cell(page, 3, 2).click()
    before, link = view(page), fragment(page)
    page.get("about:blank")
    page.get((tmp_path / "page.html").as_uri() + link)
    assert view(page) == before
    assert before | {"index": 1, "row": 3, "pos": 2, "pinned": True} == before
    pressed = [button.text for button in page.find_elements(By.CSS_SELECTOR, "[aria-pressed=true][data-name]")]
    assert pressed == ["dark", "tuned", "prism", "entropy", "probability"]
    assert Select(find(page, "#prompt")).first_selected_option.text.startswith("ctl")
    assert "Row 3, position 2 " in text(page, "#detail-title")


def test_the_address_follows_the_view_by_itself(page: Chrome) -> None:
    cell(page, 3, 2).click()
    WebDriverWait(page, 5).until(lambda chrome: "row=3&pos=2&pinned=yes" in chrome.current_url)


def test_a_link_followed_on_the_open_page_changes_its_view(page: Chrome, records: list[PromptRecords]) -> None:
    page.execute_script("location.hash = '#lens=tuned&row=2&pos=1'")
    WebDriverWait(page, 5).until(lambda chrome: view(chrome)["lens"] == "tuned")
    assert_detail(page, record_at(records[0], "tuned", 2, 1))


@pytest.mark.parametrize(
    "link",
    [
        "#lens=nothing&with=norm&colour=x&by=y&theme=z&row=99&pos=-1&pinned=1&tokens=1e3.-5.999999999.%00.x&prompt=gone",
        "#row=1e0&pos=0x1&tokens=", "#%E0%A4%A", "#<img src=x onerror=pwned=1>", "#lens=constructor&with=__proto__",
    ],
)  # fmt: skip
def test_a_link_with_anything_else_in_it_is_passed_over(page: Chrome, tmp_path: Path, link: str) -> None:
    page.get("about:blank")
    page.get((tmp_path / "page.html").as_uri() + link)
    found = view(page)
    assert (found["lens"], found["other"], found["quantity"], found["by"]) == ("norm", None, "kl", "rank")
    assert (found["row"], found["pos"], found["pinned"], found["index"]) == (ROWS - 1, POSITIONS - 1, False, 0)
    assert page.execute_script("return window.pwned") is None


# The clipboard


def test_the_link_and_the_command_go_to_the_clipboard_and_stand_in_a_box(page: Chrome) -> None:
    page.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    find(page, "#copy-link").click()
    WebDriverWait(page, 5).until(lambda chrome: text(chrome, "#said").endswith("copied."))
    assert find(page, "#copy-text").get_property("value") == page.current_url
    find(page, "#copy-command").click()
    WebDriverWait(page, 5).until(lambda chrome: text(chrome, "#said") == "Command for this prompt: copied.")
    copied = page.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == find(page, "#copy-text").get_property("value")
    assert str(copied).startswith(COMMAND)


def test_a_browser_that_refuses_the_clipboard_leaves_the_text_selected(page: Chrome) -> None:
    page.execute_script(
        "navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"
    )
    find(page, "#copy-command").click()
    WebDriverWait(page, 5).until(lambda chrome: "Ctrl+C" in text(chrome, "#said"))
    assert page.switch_to.active_element == find(page, "#copy-text")
    box = (
        "const box = document.getElementById('copy-text'); return box.value.slice(box.selectionStart, box.selectionEnd)"
    )
    assert str(page.execute_script(box)).startswith(COMMAND)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("The capital of Germany is", "Berlin"), ("It's $HOME `ls` \\ \"x\" !! *", "it's"), ("a\nb\tc\r", " \n"),
        ("\x1b]0;title\x07 \u202e\u2028", "é東"), ("-rf --x", "-1"), ("", "=x"), ("tail\\", "'"),
    ],
)  # fmt: skip
def test_a_shell_reads_the_command_back_as_the_prompt(chrome: Chrome, tmp_path: Path, prompt: str, answer: str) -> None:
    record = page_records(3, 2)
    record = record._replace(prompt=record.prompt._replace(text=prompt, answer=answer))
    open_page(chrome, write_page(tmp_path / "page.html", record))
    command = str(chrome.execute_script("return command()"))
    assert command.isprintable(), "a terminal would act on it"
    script = command.replace("logos-pl", "printf '%s\\0'", 1)
    run = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    words = run.stdout.decode().split("\0")[:-1]
    expected = [*shlex.split(COMMAND)[1:], f"--data.prompt={prompt}", f"--data.answer={answer}", "--sweep.open=true"]
    assert words == expected


def test_a_conversation_names_its_turns_and_its_command_reads_the_same_tokens(chrome: Chrome, tmp_path: Path) -> None:
    record = page_records(3, 2)
    chat = record.prompt._replace(messages=(Message("user", "a"),), answer=None, text="<s> a")
    places = (Place("turn1", "user", 0, 1), Place("last", None, 1, 1))
    open_page(chrome, write_page(tmp_path / "page.html", record._replace(prompt=chat, places=places)))
    for pos, named in ((0, ", turn1 (user) "), (1, ", turn1 (user), last ")):
        chrome.execute_script("show(2, arguments[0])", pos)
        assert f"Row 2, position {pos}{named}" in text(chrome, "#detail-title")
    asked = "--data.prompt='<s> a' --data.special_tokens=none --sweep.open=true"
    assert chrome.execute_script("return command()") == f"{COMMAND} {asked}"
    ids = record.prompt._replace(token_ids=(1, 20))
    open_page(chrome, write_page(tmp_path / "page.html", record._replace(prompt=ids)))
    asked = "--data.token_ids='[1,20]' --data.answer=Berlin --sweep.open=true"
    assert chrome.execute_script("return command()") == f"{COMMAND} {asked}"


# Pictures


def svg_of(chrome: Chrome) -> ElementTree.Element:
    return ElementTree.fromstring(str(chrome.execute_script("return svgText()")))


def test_the_svg_has_the_tokens_and_colours_of_every_cell(page: Chrome, records: list[PromptRecords]) -> None:
    find(page, "#others [data-name=tuned]").click()
    drawn = [
        (box.find(f"{SVG}rect").get("fill"), box.findtext(f"{SVG}text"))  # type: ignore[union-attr]
        for box in svg_of(page).iter(f"{SVG}svg")
        if box.find(f"{SVG}rect") is not None and box.get("width") == "66"
    ]
    shown = page.execute_script("""
        const two = (part) => Number(part).toString(16).padStart(2, "0");
        const hex = (css) => "#" + css.match(/\\d+/g).map(two).join("");
        const seen = (cell) => [hex(getComputedStyle(cell).backgroundColor), cell.textContent];
        return shownGrids().flatMap((grid) => grid.cells.map(seen));
    """)
    assert len(shown) == 3 * ROWS * POSITIONS
    assert sorted(drawn) == sorted(map(tuple, shown))


def test_the_svg_needs_no_style_sheet_and_refers_to_nothing(page: Chrome) -> None:
    root = svg_of(page)
    names = {name for part in root.iter() for name in part.attrib}
    assert names & {"class", "style", "href", "id"} == set()
    assert {part.tag.removeprefix(SVG) for part in root.iter()} <= {
        "svg",
        "g",
        "rect",
        "text",
        "line",
        "path",
        "circle",
    }
    lines = list(root.iter(f"{SVG}path"))
    assert lines
    assert all(line.get("stroke", "none") != "none" and line.get("fill") == "none" for line in lines)


def test_hostile_strings_are_text_in_the_svg(chrome: Chrome, tmp_path: Path) -> None:
    record = page_records(3, 2, vocabulary=(HOSTILE,) * 12, prompt_id=HOSTILE)
    record = record._replace(prompt=record.prompt._replace(text=HOSTILE))
    open_page(chrome, write_page(tmp_path / "page.html", record, name=HOSTILE))
    root = svg_of(chrome)
    assert any("<img" in (part.text or "") for part in root.iter(f"{SVG}text"))
    assert {part.tag.removeprefix(SVG) for part in root.iter()} <= {
        "svg",
        "g",
        "rect",
        "text",
        "line",
        "path",
        "circle",
    }


def test_the_png_is_the_svg_at_twice_its_size_or_what_a_canvas_holds(page: Chrome, tmp_path: Path) -> None:
    find(page, "#themes [data-name=dark]").click()
    data = page.execute_async_script("""
        const done = arguments[0];
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        viewAsPng().then((blob) => reader.readAsDataURL(blob));
    """)
    path = tmp_path / "view.png"
    path.write_bytes(base64.b64decode(str(data).partition("base64,")[2]))
    pixels, root = matplotlib.image.imread(path), svg_of(page)
    assert pixels.shape[:2] == (2 * float(root.get("height", "0")), 2 * float(root.get("width", "0")))
    assert [round(255 * part) for part in pixels[0, 0, :3]] == [0x10, 0x13, 0x17]
    assert len({tuple(pixel) for pixel in pixels[::7, ::7].reshape(-1, pixels.shape[2]).tolist()}) > 20


def test_the_buttons_save_files_named_after_the_view(page: Chrome, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    find(page, "#save-svg").click()
    find(page, "#save-png").click()
    names = ["demo-pos-orig-Germany-Berlin-norm.png", "demo-pos-orig-Germany-Berlin-norm.svg"]
    WebDriverWait(page, 10).until(lambda _: sorted(path.name for path in folder.iterdir()) == names)
    ElementTree.parse(folder / names[1])
    assert text(page, "#said").startswith("Saved as demo-pos-orig")


# Light and dark


def background(chrome: Chrome) -> str:
    return str(chrome.execute_script("return getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_light_or_dark_as_the_system_or_as_its_reader_wants(page: Chrome, scheme: str) -> None:
    resize(page, 1280, scheme=scheme)
    light, dark = "rgb(246, 247, 249)", "rgb(16, 19, 23)"
    assert background(page) == (dark if scheme == "dark" else light)
    lens = "return getComputedStyle(document.querySelector('#chart .tuned')).color"
    system = page.execute_script(lens)
    for name, colour in (("dark", dark), ("light", light)):
        find(page, f"#themes [data-name={name}]").click()
        assert background(page) == colour
        assert (page.execute_script(lens) == system) == (name == scheme)
    find(page, "#themes [data-name=system]").click()
    assert background(page) == (dark if scheme == "dark" else light)


# Keys and screen readers


def tree(chrome: Chrome) -> list[dict[str, Any]]:
    """Nodes of the accessibility tree that a screen reader gets, as role and name."""
    nodes = chrome.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        {"role": node["role"]["value"], "name": node.get("name", {}).get("value", "")}
        for node in nodes if not node["ignored"] and "role" in node
    ]  # fmt: skip


def test_everything_that_can_be_pressed_or_filled_in_has_a_name(page: Chrome) -> None:
    find(page, "#others [data-name=tuned]").click()
    find(page, "#search").send_keys("e")
    controls = [node for node in tree(page) if node["role"] in CONTROLS]
    assert len(controls) > 40
    assert [node for node in controls if not str(node["name"]).strip()] == []
    names = [str(node["name"]) for node in controls]
    for wanted in (
        "Skip to the table",
        "copy link",
        "copy command",
        "PNG",
        "SVG",
        "Find a token of this prompt's tables",
    ):
        assert wanted in names
    grids = [str(node["name"]) for node in controls if node["role"] == "grid"]
    assert [name.split(",")[0].split(":")[0] for name in grids] == [
        "Top-1 tokens of the norm lens", "Top-1 tokens of the tuned lens", "tuned lens minus norm lens",
    ]  # fmt: skip


def test_a_chart_says_what_it_shows(page: Chrome, records: list[PromptRecords]) -> None:
    page.execute_script("show(3, 2)")
    names = [str(node["name"]) for node in tree(page) if node["role"] in ("image", "img")]
    (label,) = [name for name in names if name.startswith("Rank through the rows")]
    rank = records[0].followed.ranks["norm"][3 * POSITIONS + 2][0]
    assert f"norm lens: rank {rank}, p " in label
    (kl,) = [name for name in names if name.startswith("KL(row")]
    assert f"norm lens: {record_at(records[0], 'norm', 3, 2).kl_to_final_bits:.4g} at row 3" in kl


def test_tab_goes_through_the_page_from_top_to_bottom_and_stops_once_in_a_table(page: Chrome) -> None:
    page.execute_script("document.activeElement.blur()")
    order: list[str] = []
    for _ in range(40):
        press(page, Keys.TAB)
        focused = page.switch_to.active_element
        order.append(str(focused.get_attribute("id") or focused.get_attribute("data-name") or focused.tag_name))
        if order[-1] == "search":
            break
    wanted = ["skip", "dark", "prompt", "norm", "kl", "copy-link", "save-svg", "td", "search"]
    assert [order.index(name) for name in wanted] == sorted(order.index(name) for name in wanted)
    assert order.count("td") == 1


def test_the_first_stop_leads_to_the_table(page: Chrome) -> None:
    page.execute_script("document.activeElement.blur()")
    press(page, Keys.TAB)
    assert page.switch_to.active_element == find(page, "#skip")
    press(page, Keys.ENTER)
    assert page.switch_to.active_element == cell(page, ROWS - 1, POSITIONS - 1)


def test_what_the_page_says_is_announced(page: Chrome) -> None:
    roles = [find(page, selector).aria_role for selector in ("#said", "#found-line")]
    assert roles == ["status", "status"]
