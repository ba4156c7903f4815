"""The sizes are those that the configurations' models have."""

from pathlib import Path

import yaml

from benchmarks.architectures import ARCHITECTURES, SMALL
from logos_pl.lm.known_shapes import KNOWN_SHAPES
from logos_pl.lm.model_shape import model_shape, shape_of

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_every_shipped_configuration_is_of_a_known_model_and_no_other_is_known() -> None:
    models = {yaml.safe_load(path.read_text())["model"]["model_id"] for path in CONFIGS}
    assert models == set(KNOWN_SHAPES)


def test_the_sizes_are_counted_on_the_architecture_itself() -> None:
    counted = {name: shape_of(config) for name, config in ARCHITECTURES.items() if name != SMALL}
    assert counted | {"demo": model_shape("demo")} == KNOWN_SHAPES
    sizes = [shape.num_parameters for shape in KNOWN_SHAPES.values()]
    assert sizes == sorted(sizes)
