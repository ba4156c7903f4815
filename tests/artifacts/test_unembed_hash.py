import numpy
import pytest
import torch

from logos_pl.artifacts.unembed_hash import unembed_hash


@pytest.mark.parametrize(
    ("shape", "printed"),
    [
        # From the package: tensor_hash((torch.arange(rows * columns).reshape(rows, columns) ** 2 / 7.).numpy())
        ((10, 20), "b2f9adb65da8cfb47d512dfa79c12be5f4c672db5ad5127de45e89594eb55cf2"),
        ((300, 40), "c11e87a41f1d422bc869ed26d34a3cb037e2587136dbca6408cea2e7053416a6"),
        ((5, 1000), "89a6b451cc27eb40d1e4b0451ab16fa1d25766bd3a8771fbc5baecb744ed5773"),
    ],
)
def test_the_hash_is_the_packages_own(shape: tuple[int, int], printed: str) -> None:
    rows, columns = shape
    weight = torch.arange(rows * columns).reshape(shape) ** 2 / 7.0
    assert unembed_hash(weight) == printed
    with numpy.printoptions(linewidth=200, suppress=True, floatmode="fixed", sign="+", edgeitems=2, threshold=5):
        assert unembed_hash(weight) == printed
