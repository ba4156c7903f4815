"""A GGUF file gives the model that its numbers stand for, by the package gguf; what is no such file is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.lm import packages
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.gguf_files import read_gguf_config, read_gguf_header
from logos_pl.lm.load_model import load_model
from logos_pl.lm.loading import ALIGNMENT
from logos_pl.lm.sources import filed_under, locate, tokenizer_commit
from logos_pl.lm.tokenizer import load_tokenizer
from tests.quantised import de_quantised, make_gguf, package, wide_model

IDS = torch.arange(3, 15)[None]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package("accelerate")
    return wide_model(tmp_path_factory.mktemp("gguf") / "m")


@pytest.fixture(scope="module")
def stored(plain: Path) -> Path:
    """A folder with a file and nothing else."""
    folder = plain.parent / "stored"
    folder.mkdir()
    make_gguf(plain, folder / "m.Q8_0.gguf")
    return folder


@pytest.fixture
def file(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(stored / "m.Q8_0.gguf", tmp_path / "m.gguf"))


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1"])
def test_the_model_is_that_of_the_numbers_in_the_file_bit_for_bit(plain: Path, tmp_path: Path, kind: str) -> None:
    make_gguf(plain, tmp_path / f"m.{kind}.gguf", kind)
    wanted = FrozenLM.load(str(de_quantised(plain, tmp_path / "plain", kind)))
    lm = load_model(str(tmp_path), gguf=f"m.{kind}.gguf", dtype="float32")
    assert torch.equal(lm.logits(IDS), wanted.logits(IDS))
    assert {tensor.data_ptr() % ALIGNMENT for tensor in lm.model.state_dict().values()} == {0}
    assert (lm.model_id, lm.num_blocks, lm.dtype) == (f"m.{kind}.gguf", 4, torch.float32)
    assert lm.loaded_as is not None
    assert lm.loaded_as.format == f"GGUF {kind}"


def test_half_precision_rounds_the_numbers_once(plain: Path, stored: Path, tmp_path: Path) -> None:
    wanted = FrozenLM.load(str(de_quantised(plain, tmp_path / "plain")), dtype="bfloat16")
    lm = FrozenLM.load(str(stored), dtype="bfloat16")
    assert torch.equal(lm.logits(IDS), wanted.logits(IDS))


def test_the_record_names_file_and_hash_and_the_commit_is_of_the_content(stored: Path, tmp_path: Path) -> None:
    lm = FrozenLM.load(str(stored))
    assert lm.loaded_as is not None
    assert (lm.loaded_as.repo_id, lm.loaded_as.file) == ("stored", "m.Q8_0.gguf")
    copied = shutil.copytree(stored, tmp_path / "copied")
    again = FrozenLM.load(str(copied))
    assert again.model_commit == lm.model_commit
    assert again.loaded_as is not None
    assert again.loaded_as.same_numbers(lm.loaded_as)


def test_a_file_is_called_by_its_name_as_a_repository_holds_several(stored: Path) -> None:
    assert filed_under(str(stored)) == "m.Q8_0.gguf"
    assert filed_under("org/models", "m.gguf") == "org/m.gguf"


def test_the_tokenizer_is_the_files_unless_one_lies_beside_it(stored: Path, plain: Path, tmp_path: Path) -> None:
    of_file = load_tokenizer(str(stored))
    assert [of_file.convert_ids_to_tokens(i) for i in (0, 2, 4)] == ["<s>", ".", "a"]
    beside = shutil.copytree(stored, tmp_path / "beside")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(plain / name, beside)
    assert load_tokenizer(str(beside))("sun moon").input_ids == load_tokenizer(str(plain))("sun moon").input_ids
    assert tokenizer_commit(locate(str(beside))) == tokenizer_commit(locate(str(plain)))
    assert tokenizer_commit(locate(str(stored))) != tokenizer_commit(locate(str(plain)))


def test_the_configuration_beside_a_file_is_not_the_models(plain: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(plain, tmp_path / "both")
    make_gguf(plain, folder / "m.gguf", "F32")
    (folder / "config.json").write_text(json.dumps({"model_type": "zorg"}))
    assert FrozenLM.load(str(folder), gguf="m.gguf").num_blocks == 4


def write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def cut(length: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:length])


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (write(b""), "is not a GGUF file"),
    "another format": (write(b"PK\3\4" + bytes(100)), "is not a GGUF file"),
    "pointer": (write(b"version https://git-lfs.github.com/spec/v1\n"), "is a Git LFS pointer"),
    "a magic alone": (write(b"GGUF"), "cannot be read as a GGUF file"),
    "zeros": (write(b"GGUF" + bytes(1000)), "cannot be read as a GGUF file"),
    "cut header": (cut(300), "cannot be read as a GGUF file"),
    "cut data": (cut(20_000), "cannot be read as a GGUF file"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_whole_file_is_refused_in_a_sentence(file: Path, what: str) -> None:
    spoil, message = WRONG[what]
    spoil(file)
    with pytest.raises(InputError, match=f"m.gguf of m.gguf {message}") as caught:
        FrozenLM.load(str(file.parent))
    assert "\n" not in str(caught.value)


def test_one_of_several_parts_is_refused(plain: Path, tmp_path: Path) -> None:
    path = make_gguf(plain, tmp_path / "m-00001-of-00003.gguf", split__count=3)
    with pytest.raises(InputError, match=r"is one of 3 parts of a model, but only a single file can be read: merge"):
        read_gguf_header(path, "m")


def test_absurd_metadata_are_refused_before_anything_is_built(plain: Path, tmp_path: Path) -> None:
    path = make_gguf(plain, tmp_path / "m.gguf", other__block_count=2**30)
    with pytest.raises(InputError, match=r"has 1,073,741,824 for other\.block_count, but no model has more"):
        read_gguf_config(path, "m")


def test_more_blocks_than_the_metadata_say_are_refused(plain: Path, tmp_path: Path) -> None:
    settings = json.loads((plain / "config.json").read_text())
    few = shutil.copytree(plain, tmp_path / "few")
    (few / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 3}))
    make_gguf(few, tmp_path / "m.gguf")
    with pytest.raises(InputError, match=r"has tensors of 4 blocks, but its metadata describes 3"):
        FrozenLM.load(str(tmp_path), gguf="m.gguf")


def test_a_file_that_is_not_there_is_refused_with_those_that_are(stored: Path, plain: Path) -> None:
    with pytest.raises(InputError, match=r"has no x\.gguf; --model\.gguf can be m\.Q8_0\.gguf"):
        locate(str(stored), gguf="x.gguf")
    with pytest.raises(InputError, match=r"has no x\.gguf; it holds no GGUF file"):
        locate(str(plain), gguf="x.gguf")
    with pytest.raises(InputError, match=r"is not a folder; give its folder, and m\.Q8_0\.gguf as --model\.gguf"):
        locate(str(stored / "m.Q8_0.gguf"))


def test_streaming_and_sharding_are_refused_before_weights_are_read(stored: Path) -> None:
    with pytest.raises(InputError, match=r"GGUF Q8_0 weights, .*, which is neither streamed nor sharded"):
        FrozenLM.load(str(stored), placement="streamed")


def test_without_the_packages_the_command_that_installs_them_is_said(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the packages gguf and accelerate, .* `pip install gguf accelerate`"):
        FrozenLM.load(str(file.parent))
