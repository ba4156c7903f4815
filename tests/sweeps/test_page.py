import json
import math
import re
import tracemalloc
from decimal import Context, Decimal
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from logos_pl.sweeps.milestones import as_json
from logos_pl.sweeps.page import PageWriter
from logos_pl.sweeps.page_template import SCRIPTS, page_halves
from logos_pl.sweeps.records import NonFinite
from tests.sweeps.page_records import COMMAND, HOSTILE, page_records, reached, write_page


class Scripts(HTMLParser):
    """The script elements of a page, as a parser finds them that is not a browser's."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[str] = []
        self._inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag == "script"
        if self._inside:
            self.found.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            attributes, text = self.found[-1]
            self.found[-1] = (attributes, text + data)

    def prompts(self) -> list[dict[str, Any]]:
        return [json.loads(text, parse_constant=pytest.fail) for at, text in self.found if "data-prompt" in at]


def four_digits(value: float) -> Decimal:
    return Context(prec=4).create_decimal_from_float(value)


def test_the_page_has_every_number_of_the_records_to_four_significant_digits(tmp_path: Path) -> None:
    record = page_records(4, 3)
    (data,) = Scripts(write_page(tmp_path / "page.html", record).read_text("utf-8")).prompts()
    for lens, cells in record.positions.items():
        found = data["lenses"][lens]
        for i, cell in enumerate(cells):
            for name in ("entropy_bits", "kl_to_final_bits", "kl_from_final_bits", "rest_mass"):
                assert Decimal(repr(found[name][i])) == four_digits(getattr(cell, name))
            assert found["top_ids"][10 * i : 10 * i + 10] == [token.id for token in cell.top]
            assert [Decimal(repr(p)) for p in found["top_p"][10 * i : 10 * i + 10]] == [
                four_digits(token.p) for token in cell.top
            ]
            assert [data["tokens"][str(token.id)] for token in cell.top] == [token.token for token in cell.top]
        assert found["next"]["answer_rank"] == [row.answer_rank for row in record.next_token[lens]]
        assert found["milestones"]["first_rank_le_5"]["row"] == reached(record)[lens].first_rank_le_5
    assert data["ids"] == list(record.ids)
    assert data["prompt"] == record.prompt._asdict() | {"messages": [], "token_ids": []}
    assert data["places"] == []


def test_followed_tokens_stand_cell_by_cell(tmp_path: Path) -> None:
    record = page_records(4, 3)
    (data,) = Scripts(write_page(tmp_path / "page.html", record).read_text("utf-8")).prompts()
    assert data["followed_ids"] == list(record.followed.ids)
    assert [data["tokens"][str(id_)] for id_ in record.followed.ids] == list(record.followed.tokens)
    for lens in ("norm", "tuned"):
        found = data["lenses"][lens]
        assert found["followed_rank"] == [rank for cell in record.followed.ranks[lens] for rank in cell]
        expected = [four_digits(p) for cell in record.followed.p[lens] for p in cell]
        assert [Decimal(repr(p)) for p in found["followed_p"]] == expected


def test_labels_and_the_command_stand_once_at_the_head(tmp_path: Path) -> None:
    page = Scripts(write_page(tmp_path / "page.html", page_records(4, 3)).read_text("utf-8"))
    about = json.loads(page.found[0][1])
    assert about["labels"] == {"norm": "norm lens", "tuned": "tuned lens"}
    assert about["command"] == COMMAND


def test_milestones_stand_as_in_the_output_with_four_digits(tmp_path: Path) -> None:
    record = page_records(4, 2)
    (data,) = Scripts(write_page(tmp_path / "page.html", record).read_text("utf-8")).prompts()
    expected = as_json(reached(record)["norm"], 3)["L_copy"]
    assert data["lenses"]["norm"]["milestones"]["L_copy"] == {"row": 1, "frac": 0.3333}
    assert expected == {"row": 1, "frac": 1 / 3}


def test_a_lens_without_milestones_has_none(tmp_path: Path) -> None:
    record = page_records(4, 2)
    with PageWriter(tmp_path / "page.html", "demo", ("norm",), 3, COMMAND) as page:
        page.add(record, {})
    (data,) = Scripts((tmp_path / "page.html").read_text("utf-8")).prompts()
    assert data["lenses"]["norm"]["milestones"] is None
    assert list(data["lenses"]) == ["norm"]


def test_what_is_not_finite_is_null_and_a_cell_without_tokens_keeps_its_place(tmp_path: Path) -> None:
    record = page_records(3, 2, nonfinite=[NonFinite("norm", 1, 0)])
    (data,) = Scripts(write_page(tmp_path / "page.html", record).read_text("utf-8")).prompts()
    norm = data["lenses"]["norm"]
    assert norm["kl_to_final_bits"][2] is None
    assert norm["top_ids"][20:30] == [None] * 10
    assert norm["top_ids"][30] == record.positions["norm"][3].top[0].id
    assert data["nonfinite"] == [["norm", 1, 0]]


def test_no_string_ends_a_script_or_starts_a_tag(tmp_path: Path) -> None:
    plain = Scripts(write_page(tmp_path / "plain.html", page_records(3, 2)).read_text("utf-8"))
    record = page_records(3, 2, vocabulary=(HOSTILE, *"abcdefghijkl"), prompt_id=HOSTILE)
    record = record._replace(prompt=record.prompt._replace(text=HOSTILE, answer=HOSTILE, fact=HOSTILE))
    text = write_page(tmp_path / "page.html", record, name=HOSTILE).read_text("utf-8")
    page = Scripts(text)
    assert page.tags == plain.tags
    assert page.prompts()[0]["prompt"]["text"] == HOSTILE
    assert page.prompts()[0]["tokens"]["0"] == HOSTILE
    assert json.loads(page.found[0][1])["model"] == HOSTILE
    data = text[text.index('<script type="application/json"') : text.rindex("<script>")]
    assert not re.search("<!--|[\u2028\u2029]", re.sub('data-prompt="[^"]*"', "", data))
    assert [character for character in text if not character.isprintable() and character != "\n"] == []
    assert len(re.findall("</script", data)) == 2


def test_the_same_records_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_page(tmp_path / name, page_records(4, 3)).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_the_page_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with PageWriter(path, "demo", ("norm",), 2, COMMAND) as page:
        page.add(page_records(3, 2), {})
        assert [file.name for file in tmp_path.iterdir()] == ["page.html.partial"]
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text("utf-8").endswith("</html>\n")


def write_and_fail(path: Path) -> None:
    with PageWriter(path, "demo", ("norm",), 2, COMMAND) as page:
        page.add(page_records(3, 2), {})
        raise KeyboardInterrupt


def test_after_an_exception_the_part_stays_and_so_does_the_old_page(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(path)
    assert path.read_text() == "old"
    assert len(Scripts(path.with_name("page.html.partial").read_text("utf-8")).prompts()) == 1


def test_a_page_takes_prompts_only_inside_its_block(tmp_path: Path) -> None:
    page = PageWriter(tmp_path / "page.html", "demo", ("norm",), 2, COMMAND)
    with pytest.raises(ValueError, match="with block"):
        page.add(page_records(3, 2), {})
    with page:
        pass
    with pytest.raises(ValueError, match="with block"):
        page.add(page_records(3, 2), {})


def test_cells_and_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    record = page_records(3, 2, ("norm",))
    cells, rows = record.positions["norm"], record.next_token["norm"]
    with PageWriter(tmp_path / "page.html", "demo", ("norm",), 2, COMMAND) as page:
        with pytest.raises(ValueError, match="rows × positions"):
            page.add(record._replace(positions={"norm": [cells[1], cells[0], *cells[2:]]}), {})
        with pytest.raises(ValueError, match="rows are not 0 … 2"):
            page.add(record._replace(next_token={"norm": rows[:2]}), {})
        with pytest.raises(KeyError):
            page.add(record._replace(positions={}), {})
    assert Scripts((tmp_path / "page.html").read_text("utf-8")).prompts() == []


def test_memory_does_not_grow_with_the_number_of_prompts(tmp_path: Path) -> None:
    record = page_records(9, 20)
    with PageWriter(tmp_path / "page.html", "demo", ("norm", "tuned"), 8, COMMAND) as page:
        page.add(record, {})
        tracemalloc.start()
        for _ in range(10):
            page.add(record, {})
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    size = (tmp_path / "page.html").stat().st_size
    assert kept < 20_000 < size / 20


def test_the_template_refers_to_nothing_outside() -> None:
    template = "".join(page_halves("demo"))
    addresses = re.findall(r"""(?:https?:|//)[^\s"'`)]+\.[^\s"'`)]+""", template)
    assert addresses == ["http://www.w3.org/2000/svg"]  # a name, never fetched
    assert re.findall(r"""(?:src|href|srcset|action)\s*=\s*["'][^"']*""", template) == [
        'href="data:,',
        'src = "data:image/svg+xml;charset=utf-8,',  # the view itself, on its way to a PNG
    ]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|@import|url\(|fetch\(", template)


def test_the_parts_of_the_page_are_files_that_one_reads_at_once() -> None:
    parts = list(files("logos_pl.sweeps").joinpath("page_parts").iterdir())
    assert {part.name for part in parts} == {*SCRIPTS, "page.html", "page.css"}
    assert {part.name: lines for part in parts if (lines := len(part.read_text("utf-8").splitlines())) > 300} == {}


def test_rounding_keeps_tiny_probabilities(tmp_path: Path) -> None:
    record = page_records(2, 1, ("norm",))
    tiny = 1.23456e-30
    cells = [cell._replace(rest_mass=tiny) for cell in record.positions["norm"]]
    page = write_page(tmp_path / "page.html", record._replace(positions={"norm": cells}), lenses=("norm",))
    (data,) = Scripts(page.read_text("utf-8")).prompts()
    assert math.isclose(data["lenses"]["norm"]["rest_mass"][0], 1.235e-30, rel_tol=1e-12)
