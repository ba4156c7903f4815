import dataclasses

import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.functional.moments import Moments, MomentStream
from logos_pl.lenses.norm import NormLens
from logos_pl.lenses.prism import PrismLens, PrismMap, fit_prism
from tests.lenses.toy_head import D_MODEL, residuals, toy_head


def random_map(seed: int = 0, diagonal: bool = False) -> PrismMap:
    """A map with every number known; the whitenings are symmetric and positive."""
    generator = torch.Generator().manual_seed(seed)

    def symmetric() -> torch.Tensor:
        if diagonal:
            return torch.rand(D_MODEL, generator=generator) + 0.5
        half = torch.randn(D_MODEL, D_MODEL, generator=generator)
        return half @ half.T / D_MODEL + 0.5 * torch.eye(D_MODEL)

    rotation = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL, generator=generator))[0]
    mean, mean_final = torch.randn(2, D_MODEL, generator=generator)
    return PrismMap(mean, symmetric(), rotation, symmetric(), mean_final)


def applied(prism: PrismMap, x: torch.Tensor) -> torch.Tensor:
    """The map by its definition, step by step in fp64."""
    whiten, unwhiten = (part.double() if part.ndim == 2 else part.double().diag() for part in (prism[1], prism[3]))
    return (x.double() - prism.mean) @ whiten @ prism.rotation.double() @ unwhiten + prism.mean_final


def stream_through(known: PrismMap, diagonal: bool) -> Moments:
    """Moments of vectors that ``known`` takes exactly to their partners, in blocks and at two rows."""
    generator = torch.Generator().manual_seed(5)
    stream = MomentStream(2, D_MODEL)
    unwhiten = known.whiten.double().pow(-1).diag() if diagonal else torch.linalg.inv(known.whiten.double())
    # Exactly white samples, so that the whitening of the stream is the known one to rounding.
    white = torch.randn(4000, D_MODEL, generator=generator, dtype=torch.float64)
    white = torch.linalg.qr(white - white.mean(0))[0] * 4000**0.5
    for part in white.split(700):
        x = part @ unwhiten + known.mean
        stream.add(torch.stack([x, x]), applied(known, x))
    return stream.moments()


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_known_whitening_and_rotation_are_recovered_from_a_stream_and_the_transpose_is_not(diagonal: bool) -> None:
    known = random_map(diagonal=diagonal)
    if diagonal:  # x_n's covariance is diagonal only where the rotation permutes axes
        known = known._replace(rotation=torch.eye(D_MODEL).roll(1, 0))
    found = fit_prism(stream_through(known, diagonal), [0, 1], "diagonal" if diagonal else "full", 0.0)

    for name, wanted in known._asdict().items():
        torch.testing.assert_close(getattr(found, name), wanted, rtol=1e-4, atol=1e-4)
    x = torch.randn(7, D_MODEL)
    matrix, bias = found.affine()
    torch.testing.assert_close((x @ matrix + bias).double(), applied(known, x), rtol=1e-4, atol=1e-4)
    turned = known._replace(rotation=known.rotation.T)
    assert ((x @ matrix + bias).double() - applied(turned, x)).abs().max() > 0.1


def test_rows_before_the_last_go_through_the_one_map_and_the_last_is_the_models_head_bit_for_bit() -> None:
    h, head, prism = residuals(5), toy_head(), random_map()
    lens = PrismLens(prism, head)
    logits = lens.logits(h, range(5))

    assert torch.equal(logits[4], NormLens(head).logits(h, range(5))[4])
    for row in range(4):
        x = applied(prism, head.normalise(h[row : row + 1], [row])).float()
        torch.testing.assert_close(logits[row], head.logits(x)[0], rtol=1e-4, atol=1e-4)


def test_any_mix_of_rows_gives_what_each_row_gives_alone() -> None:
    h, rows, lens = residuals(4), [4, 0, 2, 4], PrismLens(random_map(), toy_head())
    together = lens.logits(h, rows)
    for slot, row in enumerate(rows):
        torch.testing.assert_close(together[slot], lens.logits(h[slot : slot + 1], [row])[0])


def test_no_more_positions_than_the_width_are_refused() -> None:
    stream = MomentStream(1, D_MODEL)
    stream.add(residuals(1, D_MODEL), residuals(1, D_MODEL)[0])
    with pytest.raises(InputError, match="8 distinct positions do not determine a rotation in 8 dimensions"):
        fit_prism(stream.moments(), [0], "full", 1e-3)


def test_a_lens_without_a_head_and_one_of_another_width_are_refused() -> None:
    lens = PrismLens(random_map())
    with pytest.raises(InputError, match="no head to decode with"):
        lens.logits(residuals(1), [0])
    head = toy_head()
    wide = dataclasses.replace(head.anatomy, project=torch.nn.Linear(D_MODEL + 1, 6))
    head.anatomy = wide
    with pytest.raises(InputError, match="width 8, but the model is 9 wide"):
        lens.bind(head)
