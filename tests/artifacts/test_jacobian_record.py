from typing import Any

import pytest

from logos_pl.artifacts.jacobian_record import recorded_in
from logos_pl.errors import InputError


def test_nothing_recorded_is_nothing_known() -> None:
    contents: list[Any] = [{}, None, {"provenance": None, "metadata": []}]
    for content in contents:
        assert recorded_in(content, {}, "lens.pt") == (None,) * 7


def test_zero_is_a_target_and_a_number_of_prompts() -> None:
    record = recorded_in({"n_prompts": 0, "provenance": {"target_layer": 0}}, {}, "lens.pt")
    assert (record.target, record.num_prompts) == (0, 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"provenance": {"model_id": 3}}, "records '3' where a text of one line is expected"),
        ({"provenance": {"model_id": "a\x1b[31m"}}, "where a text of one line is expected"),
        ({"metadata": {"estimator": "x" * 1000}}, "records 'x{40}' where a text of one line"),
        ({"provenance": {"target_layer": "last"}}, "records 'last' where a whole number is expected"),
        ({"provenance": {"target_layer": True}}, "records 'True' where a whole number"),
        ({"n_prompts": 10**30}, "where a whole number"),
        ({"provenance": {"config_json": "{"}}, r"config_json of lens\.pt is not valid JSON"),
    ],
)
def test_a_value_of_another_type_is_refused(content: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        recorded_in(content, {}, "lens.pt")
