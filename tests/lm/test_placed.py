"""What is read is found out, and refused, before any weight is."""

from pathlib import Path

import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.lm.config import read_config
from logos_pl.lm.placed import loaded_as, place_model, plan_weights
from logos_pl.lm.sources import locate, model_commit
from tests.quantised import make_adapter, make_fp8, make_gguf, package, wide_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide_model(tmp_path_factory.mktemp("placed") / "base")


def test_plain_weights_have_no_words_and_no_record(base: Path) -> None:
    source = locate(str(base))
    weights = plan_weights(source, read_config(source), None)
    assert weights.words() is None
    assert loaded_as(source, weights) is None


def test_an_adapter_is_checked_without_the_weights_of_its_base(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "a")
    bare = wide_model(tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    source = locate(str(bare))
    with pytest.warns(UserWarning, match="names the base model base, and is merged into bare"):
        weights = plan_weights(source, read_config(source), str(adapter))
    assert weights.words() == "the LORA adapter a, merged into the weights"
    record = loaded_as(source, weights)
    assert record is not None
    assert record.adapter is not None
    assert (record.adapter.base_id, record.adapter.base_commit) == ("bare", model_commit(source))


def test_quantised_weights_and_an_adapter_do_not_go_together(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "a")
    stored = make_fp8(base, tmp_path / "base")
    (tmp_path / "g").mkdir()
    make_gguf(base, tmp_path / "g" / "base.gguf")
    for folder, what in ((stored, "fp8"), (tmp_path / "g", "GGUF Q8_0")):
        source = locate(str(folder))
        with pytest.raises(
            InputError, match=f"the adapter a is merged into plain weights, and those of .* are {what};"
        ):
            plan_weights(source, read_config(source), str(adapter))


def test_what_is_not_plain_is_not_streamed(base: Path, tmp_path: Path) -> None:
    package("accelerate")
    source = locate(str(make_fp8(base, tmp_path / "fp8")))
    config = read_config(source)
    weights = plan_weights(source, config, None)
    with pytest.raises(InputError, match=r"fp8 has fp8 weights, de-quantised when it is loaded, which is neither"):
        place_model(source, config, torch.float32, torch.device("cpu"), "streamed", weights, 512, 1)
