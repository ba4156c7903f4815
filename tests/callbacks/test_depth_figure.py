import torch

from logos_pl.callbacks.depth_figure import kl_against_depth


def test_the_figure_draws_both_lenses_and_both_directions() -> None:
    norm = {"kl_from_final_bits": torch.tensor([3.0, 2.0, 0.0]), "kl_to_final_bits": torch.tensor([4.0, 3.0, 0.0])}
    tuned = {name: values / 2 for name, values in norm.items()}

    (axes,) = kl_against_depth({"norm": norm, "tuned": tuned}).axes

    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(drawn["norm: KL(final ‖ row)"]) == [3.0, 2.0, 0.0]
    assert list(drawn["tuned: KL(row ‖ final)"]) == [2.0, 1.5, 0.0]
    assert len(drawn) == 4
    assert "bits" in axes.get_ylabel()
