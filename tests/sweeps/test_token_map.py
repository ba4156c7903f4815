import io
import itertools
import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from logos_pl.sweeps.records import PositionRecord, PromptRecords, TopToken
from logos_pl.sweeps.token_map import MAX_POSITIONS, token_map
from tests.sweeps.made_records import prompt_records

LENSES = ("norm", "tuned", "prism")


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def title_of(figure: Figure) -> Text:
    (title,) = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
    return title


def draw(figure: Figure) -> None:
    figure.savefig(io.BytesIO(), dpi=60)


def with_cells(record: PromptRecords, *cells: PositionRecord) -> PromptRecords:
    return record._replace(positions={"norm": list(cells)})


def luminance(colour: tuple[float, ...]) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_there_is_a_panel_per_lens_in_the_order_asked_for() -> None:
    record = prompt_records({lens: [4.0 + i, 2.0, 0.0] for i, lens in enumerate(LENSES)})

    shown = panels(token_map(record, ("tuned", "norm")))
    assert [axes.get_title(loc="left") for axes in shown] == ["tuned", "norm"]
    assert [float(np.asarray(axes.images[0].get_array())[0, 0]) for axes in shown] == [5.0, 4.0]
    assert len(panels(token_map(record, ("norm",)))) == 1


def test_a_lens_that_was_not_read_is_refused() -> None:
    with pytest.raises(KeyError, match="prism"):
        token_map(prompt_records({"norm": [1.0, 0.0]}), ("norm", "prism"))


def test_the_colours_are_the_records_divergence_with_the_last_row_on_top() -> None:
    (axes,) = panels(token_map(prompt_records({"norm": [4.0, 2.0, 0.0]}), ("norm",)))

    assert np.asarray(axes.images[0].get_array()).tolist() == [[4.0] * 4, [2.0] * 4, [0.0] * 4]
    assert axes.transData.transform((0, 2))[1] > axes.transData.transform((0, 0))[1]
    assert axes.images[0].origin == "lower"


def test_all_panels_have_one_scale_of_colours() -> None:
    figure = token_map(prompt_records({"norm": [16.0, 2.0, 0.0], "tuned": [3.0, 1.0, 0.0]}), ("norm", "tuned"))

    assert {axes.images[0].get_clim() for axes in panels(figure)} == {(0.0, 16.0)}


def test_every_cell_has_the_likeliest_token_where_it_belongs() -> None:
    record = prompt_records({"norm": [1.0, 0.0]})
    cells = [
        cell._replace(top=(TopToken(1, f"{cell.layer}/{cell.pos}", 0.5), TopToken(2, "second", 0.4)))
        for cell in record.positions["norm"]
    ]

    (axes,) = panels(token_map(with_cells(record, *cells), ("norm",)))

    assert {text.get_text(): text.get_position() for text in axes.texts} == {
        f"{layer}/{pos}": (pos, layer) for layer in range(2) for pos in range(4)
    }


def test_the_prompts_tokens_stand_below_with_their_positions() -> None:
    (axes,) = panels(token_map(prompt_records({"norm": [1.0, 0.0]}), ("norm",)))

    assert [label.get_text() for label in axes.get_xticklabels()] == ["0 <s>", "1 Berlin", "2 ␣is", "3 ␣simply"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1"]


def test_of_a_long_prompt_the_last_positions_are_shown_and_the_title_says_so() -> None:
    record = prompt_records({"norm": [1.0, 0.0]}, tokens=[f"t{pos}" for pos in range(MAX_POSITIONS + 5)])

    figure = token_map(record, ("norm",))

    (axes,) = panels(figure)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert (labels[0], labels[-1], len(labels)) == ("5 t5", "44 t44", MAX_POSITIONS)
    assert np.asarray(axes.images[0].get_array()).shape == (2, MAX_POSITIONS)
    assert f"the last {MAX_POSITIONS} of {MAX_POSITIONS + 5} positions" in figure.get_suptitle()


def test_a_prompt_of_just_as_many_positions_is_shown_whole() -> None:
    record = prompt_records({"norm": [1.0, 0.0]}, tokens=["a"] * MAX_POSITIONS)

    assert "last" not in token_map(record, ("norm",)).get_suptitle()


@pytest.mark.parametrize("token", ["$x_1$", " $", r"\alpha$\alpha$", "中文", "\n", "\U0001f9ff", "\ud800", "%", "^{}"])
def test_tokens_of_any_script_and_of_formulas_are_drawn_as_they_are(token: str) -> None:
    record = prompt_records({"norm": [1.0, 0.0]}, tokens=[token, "a" + token], top=token)
    record = record._replace(prompt=record.prompt._replace(text=token * 3))

    figure = token_map(record, ("norm",))
    draw(figure)  # warnings, as of missing glyphs, are errors

    (axes,) = panels(figure)
    assert not any(text.get_parse_math() for text in [*axes.texts, *axes.get_xticklabels(), title_of(figure)])


def test_every_text_stays_in_its_cell() -> None:
    record = prompt_records(
        {lens: [4.0, 2.0, 0.0] for lens in LENSES}, tokens=["WWWWWWWWWWWW", " internationalisation", "中文中文"] * 5
    )
    cells = {
        lens: [cell._replace(top=(TopToken(1, cell.token, 0.5),)) for cell in record.positions[lens]] for lens in LENSES
    }
    figure = token_map(record._replace(positions=cells), LENSES)
    draw(figure)

    for axes in panels(figure):
        for text in axes.texts:
            box = text.get_window_extent().transformed(axes.transData.inverted())
            column, row = text.get_position()
            assert column - 0.5 <= box.x0 < box.x1 <= column + 0.5
            assert row - 0.5 <= box.y0 < box.y1 <= row + 0.5


@pytest.mark.parametrize(("rows", "columns"), [(9, 5), (9, 40), (81, 8), (33, 12)])
def test_the_picture_holds_its_cells_at_their_size_and_no_label_covers_another(rows: int, columns: int) -> None:
    kl = [20.0 - layer / 4 for layer in range(rows)]
    figure = token_map(prompt_records(dict.fromkeys(LENSES, kl), tokens=[" capital"] * columns), LENSES)
    draw(figure)

    width, height = figure.get_size_inches()
    assert max(width, height) < 50
    for axes in panels(figure):
        cell = (
            axes.get_window_extent().width / columns / figure.dpi,
            axes.get_window_extent().height / rows / figure.dpi,
        )
        assert cell[0] > 0.5
        assert cell[1] > 0.13
        labels = [label.get_window_extent() for label in axes.get_yticklabels()]
        assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(labels))


def test_text_stands_out_from_every_colour() -> None:
    kl = [20.0 * (1 - layer / 40) ** 2 for layer in range(41)]
    (axes,) = panels(token_map(prompt_records({"norm": kl}), ("norm",)))
    image = axes.images[0]

    for text in axes.texts:
        column, row = text.get_position()
        under = luminance(image.to_rgba(np.asarray(image.get_array())[int(row), int(column)]))
        over = luminance(to_rgb(text.get_color()))
        assert (max(under, over) + 0.05) / (min(under, over) + 0.05) >= 4.5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_white_with_black_text(value: float) -> None:
    figure = token_map(prompt_records({"norm": [8.0, value, 0.0]}), ("norm",))
    draw(figure)

    (axes,) = panels(figure)
    image = axes.images[0]
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False] * 4, [True] * 4, [False] * 4]
    assert image.get_clim() == (0.0, 8.0)
    assert image.cmap(np.ma.masked_invalid([math.nan])).tolist() == [[1.0, 1.0, 1.0, 1.0]]
    assert {text.get_color() for text in axes.texts if text.get_position()[1] == 1} == {"black"}


def test_a_prompt_that_is_all_over_nothing_finite_is_drawn_still() -> None:
    record = prompt_records({"norm": [math.nan, math.nan]})
    draw(token_map(with_cells(record, *(c._replace(top=()) for c in record.positions["norm"])), ("norm",)))


def test_the_title_is_no_wider_than_the_picture() -> None:
    record = prompt_records({"norm": [1.0, 0.0]})
    figure = token_map(record._replace(prompt=record.prompt._replace(text="W" * 900)), ("norm",))
    draw(figure)

    box = title_of(figure).get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert "…" in figure.get_suptitle()
