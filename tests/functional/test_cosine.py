import numpy as np
import torch

from logos_pl.functional.cosine import cosine, direction


def test_it_is_the_correlation_of_the_logits() -> None:
    generator = torch.Generator().manual_seed(1)
    z, to = torch.randn(3, 4, 500, generator=generator), torch.randn(3, 1, 500, generator=generator)
    found = cosine(z + 5, (z + 5).mean(-1, keepdim=True), direction(to - 2))
    wanted = [[np.corrcoef(z[p, r].double(), to[p, 0].double())[0, 1] for r in range(4)] for p in range(3)]
    torch.testing.assert_close(found.double(), torch.tensor(wanted), rtol=0, atol=1e-6)


def test_it_never_leaves_its_range() -> None:
    z = torch.randn(200, 1, 37)
    for sign in (1, -1):
        found = cosine(z, z.mean(-1, keepdim=True), direction(sign * z))
        assert bool((found.abs() <= 1).all())
        torch.testing.assert_close(found, torch.full_like(found, sign))


def test_it_is_zero_where_either_has_no_direction() -> None:
    z, flat = torch.randn(1, 1, 9), torch.full((1, 1, 9), 0.1)
    assert abs(float(cosine(flat, flat.mean(-1, keepdim=True), direction(z)))) < 1e-6
    assert abs(float(cosine(z, z.mean(-1, keepdim=True), direction(torch.zeros_like(z))))) == 0.0
