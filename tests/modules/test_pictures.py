"""Figures as PNG."""

from matplotlib.figure import Figure

from logos_pl.modules.pictures import png


def test_the_same_figure_gives_the_same_bytes() -> None:
    def drawn() -> bytes:
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([1, 2])
        return png(figure)

    assert drawn() == drawn()
    assert drawn().startswith(b"\x89PNG")
    assert b"Matplotlib" not in drawn()
