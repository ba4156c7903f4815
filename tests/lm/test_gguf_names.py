"""Which GGUF file a folder means, and which names one may have."""

from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.lm.gguf_names import check_gguf_name, only_gguf


def test_a_folder_with_one_file_and_no_other_weights_means_this_file(tmp_path: Path) -> None:
    assert only_gguf(tmp_path) is None
    (tmp_path / "m.gguf").touch()
    (tmp_path / "tokenizer.json").touch()
    assert only_gguf(tmp_path) == "m.gguf"


@pytest.mark.parametrize(
    "beside", ["config.json", "model.safetensors", "pytorch_model.bin", "a.safetensors.index.json"]
)
def test_beside_other_weights_a_file_has_to_be_named(tmp_path: Path, beside: str) -> None:
    (tmp_path / "m.gguf").touch()
    (tmp_path / beside).touch()
    assert only_gguf(tmp_path) is None


def test_of_several_files_one_has_to_be_named(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"holds 2 GGUF files, a\.gguf first: give one of them with --model\.gguf"):
        only_gguf(tmp_path)


@pytest.mark.parametrize(
    "name", ["../m.gguf", "a/b.gguf", "/m.gguf", ".gguf", "m.safetensors", "a\\b.gguf", "*.gguf", ""]
)
def test_a_name_is_a_plain_one_with_the_ending(name: str) -> None:
    assert check_gguf_name("My Model.Q4_1.gguf") == "My Model.Q4_1.gguf"
    with pytest.raises(InputError, match=r"is not the name of a \.gguf file in the model's folder or repository"):
        check_gguf_name(name)
