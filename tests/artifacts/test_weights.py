import io
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.artifacts.provenance_schema import Capacity
from logos_pl.artifacts.weights import (
    capacity_of,
    check_weights,
    decode,
    encode,
    temperature_of,
    translators_of,
    weights_of,
)
from logos_pl.errors import InputError
from logos_pl.lenses.translator import Translators
from tests.artifacts.lenses import make_translators


def test_weights_survive_encoding_to_the_last_bit() -> None:
    translators = make_translators()
    weights = decode(bytes(encode(weights_of(translators))))
    again = translators_of(weights)
    for name, tensor in translators.state_dict().items():
        assert weights[name].is_contiguous()
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_view_is_saved_without_what_it_is_a_view_of() -> None:
    translators = Translators(2, 8, 2)
    translators.U = torch.nn.Parameter(torch.zeros(1000, 8, 2)[:2])
    translators.V = torch.nn.Parameter(torch.zeros(2, 2, 8).mT)
    assert len(encode(weights_of(translators))) < 8_000
    assert weights_of(translators)["V"].is_contiguous()


def test_saved_weights_do_not_follow_further_training() -> None:
    translators = make_translators()
    weights = weights_of(translators)
    before = weights["U"].clone()
    with torch.no_grad():
        translators.U.add_(1.0)
    assert torch.equal(weights["U"], before)


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_the_capacity_counts_every_number(rank: int) -> None:
    # (2 d k + d) per row, and a temperature.
    assert capacity_of(Translators(3, 8, rank)) == Capacity(rank, 3, 3 * (2 * 8 * rank + 8 + 1))


def test_a_lens_of_bias_and_temperature_alone_is_kept_too() -> None:
    translators = make_translators(rank=0)
    weights = decode(bytes(encode(weights_of(translators))))
    check_weights(weights, capacity_of(translators))
    assert translators_of(weights).rank == 0


def test_the_recorded_temperatures_are_those_of_the_specification() -> None:
    translators = make_translators()
    recorded = temperature_of(translators, enabled=True)
    wanted = [math.log1p(math.exp(z)) + 1e-3 for z in translators.log_tau.tolist()]  # softplus + 1e-3
    assert recorded.enabled
    assert recorded.tau == pytest.approx(wanted, rel=1e-6)


def broken(**changes: Any) -> dict[str, torch.Tensor]:
    weights = weights_of(make_translators())
    return {name: tensor for name, tensor in (weights | changes).items() if tensor is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"U": torch.zeros(3, 16, 5)}, r"U has shape \(3, 16, 5\)"),
        ({"V": torch.zeros(2, 16, 4)}, r"V has shape \(2, 16, 4\)"),
        ({"c": torch.zeros(3, 8)}, r"U has shape \(3, 16, 4\), but a lens of 3 rows, width 8"),
        ({"c": torch.tensor(0.0)}, "has shape"),
        ({"log_tau": torch.zeros(4)}, r"log_tau has shape \(4,\)"),
        ({"log_tau": None}, "log_tau has shape None"),
        ({"W": torch.zeros(1)}, r"W has shape \(1,\)"),
        ({"c": torch.zeros(3, 16, dtype=torch.float64)}, r"c is torch.float64, but must be torch.float32"),
        ({"c": torch.full((3, 16), float("nan"))}, "c holds 48 numbers that are NaN or infinite"),
        ({"log_tau": torch.tensor([0.0, float("inf"), 0.0])}, "log_tau holds 1 numbers"),
    ],
)
def test_weights_that_are_not_as_recorded_are_refused_by_tensor(changes: dict[str, Any], message: str) -> None:
    capacity = capacity_of(make_translators())
    check_weights(broken(), capacity)
    with pytest.raises(InputError, match=message):
        check_weights(broken(**changes), capacity)


def test_a_wrong_count_of_parameters_is_refused() -> None:
    with pytest.raises(InputError, match="435 parameters, but its provenance records 434"):
        check_weights(broken(), Capacity(4, 3, 434))


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_code_in_the_weights_is_refused_and_never_run(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"U": Bomb(tmp_path / "ran")}, buffer)
    with pytest.raises(InputError, match="not a state dict of tensors only"):
        decode(buffer.getvalue())
    assert not (tmp_path / "ran").exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert (tmp_path / "ran").exists()  # the bomb is live


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a zip",
        saved({"U": torch.zeros(2)})[:-40],
        saved({"U": torch.zeros(2)}).replace(b"ctorch", b"cposix"),
        saved([torch.zeros(2)]),
        saved({"U": 1.0}),
        pickle.dumps({"U": 1}),
    ],
    ids=["empty", "text", "truncated", "another global", "list", "number", "bare pickle"],
)
def test_anything_but_a_state_dict_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="not a state dict of tensors only"):
        decode(data)
