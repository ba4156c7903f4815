"""A model is placed where it fits, or as the user says."""

from pathlib import Path

import pytest
import torch

from logos_pl.lm import load_model as loading
from logos_pl.lm.devices import DeviceMemory
from logos_pl.lm.load_model import load_model
from logos_pl.lm.residuals import residuals
from tests.tiny import make_model

IDS = torch.arange(3, 15)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    # Large enough for its blocks to count beside what is the same for all models.
    settings = {"hidden_size": 128, "intermediate_size": 4096, "num_hidden_layers": 64}
    return str(make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama", **settings))


def test_a_model_that_does_not_fit_is_streamed_and_gives_the_same_rows(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for placement, megabytes in (("resident", 2000), ("streamed", 400)):
        cpu = DeviceMemory("cpu", megabytes * 10**6, megabytes * 10**6)
        monkeypatch.setattr(loading, "measure_memory", lambda cpu=cpu: [cpu])
        lm = load_model(folder, dtype="float32")
        assert (lm.streamed is not None) == (placement == "streamed")
        found[placement] = residuals(lm, IDS, None, [0, 1, 64])
    assert torch.equal(found["resident"], found["streamed"])


def test_what_the_user_names_is_kept(folder: str) -> None:
    lm = load_model(folder, placement="streamed", group_tokens=77, dtype="bfloat16")
    assert lm.streamed is not None
    assert (lm.streamed.group.tokens, lm.dtype) == (77, torch.bfloat16)
    assert load_model(folder, placement="resident").streamed is None


def test_the_name_of_a_folder_is_the_models(folder: str) -> None:
    assert load_model(folder, placement="streamed").clean_model_name == Path(folder).name
