import dataclasses

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.model import ModelSettings
from tests.settings.documentation import unexplained


@pytest.mark.parametrize("mib", [0, -1, 2**20 + 1])
def test_a_block_of_logits_takes_from_one_mib_to_a_tib(mib: int) -> None:
    message = rf"^--model\.loss_block_mib must be at least 1 and at most 1,048,576 \(got {mib}\)\.$"
    with pytest.raises(InputError, match=message):
        ModelSettings(model_id="any", loss_block_mib=mib)


def test_the_budget_of_a_block_in_bytes() -> None:
    assert ModelSettings(model_id="any", loss_block_mib=1).block_bytes == 1024 * 1024
    assert ModelSettings(model_id="any", loss_block_mib=2**20).block_bytes == 1024**4
    assert ModelSettings(model_id="any").block_bytes == 268_435_456


@pytest.mark.parametrize(
    ("given", "name", "folder"),
    [
        ({"model_id": "org/m@v2"}, "org/m", "m@v2"),
        ({"model_id": "org/models", "gguf": "m.Q8_0.gguf"}, "org/m.Q8_0.gguf", "m.Q8_0.gguf"),
        ({"model_id": "org/m@v2", "adapter": "org/a@v1"}, "org/a", "a@v1"),
    ],
)
def test_a_gguf_model_is_called_by_its_file_and_an_adapted_one_by_its_adapter(
    given: dict[str, str], name: str, folder: str
) -> None:
    settings = ModelSettings(**given)
    assert (settings.recorded_id, settings.folder_name) == (name, folder)


def test_settings_stay_what_they_were_checked_to_be() -> None:
    settings = ModelSettings(model_id="any")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.loss_block_mib = 0
    with pytest.raises(InputError, match=r"--model\.loss_block_mib"):
        dataclasses.replace(settings, loss_block_mib=0)


def test_every_option_is_explained() -> None:
    assert unexplained(ModelSettings) == set()
