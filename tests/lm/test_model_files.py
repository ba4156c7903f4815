"""What can lie in a model's folder in the place of a file, and which names an index may give."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.model_files import shards_of, weight_names

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5481\n"
IDS = torch.arange(3, 15)[None]


def shard(folder: Path, ending: str) -> None:
    """The weights in two files, beside an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if ending == "safetensors" else "pytorch_model"
    names = [f"{stem}-0000{part}-of-00002.{ending}" for part in (1, 2)]
    homes = {key: names[number % 2] for number, key in enumerate(sorted(tensors))}
    for name in names:
        part = {key: tensors[key] for key, home in homes.items() if home == name}
        if ending == "safetensors":
            save_file(part, folder / name, {"format": "pt"})
        else:
            torch.save(part, folder / name)
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_weights_in_shards_are_those_of_the_whole_file(whole: Path, folder: Path, ending: str) -> None:
    shard(folder, ending)
    assert torch.equal(FrozenLM.load(str(folder)).logits(IDS), FrozenLM.load(str(whole)).logits(IDS))


def test_weights_of_torch_save_are_read_in_both_of_its_formats(whole: Path, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    wanted = FrozenLM.load(str(whole)).logits(IDS)
    for zipped in (True, False):
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        assert torch.equal(FrozenLM.load(str(folder)).logits(IDS), wanted)


def test_links_to_files_are_followed_as_in_a_cache(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    for path in whole.iterdir():
        (tmp_path / "linked" / path.name).symlink_to(path)
    assert FrozenLM.load(str(tmp_path / "linked")).num_blocks == 4


NAMES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]


@pytest.mark.parametrize("name", [*NAMES, "chat_template.jinja", "vocab.txt"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "pointer", "dangling link"])
def test_what_is_no_file_is_refused_by_name(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pointer":
        path.write_text(POINTER)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "/nowhere/at/all")
    says = {
        "pointer": f"{name} of m .*run `git lfs pull`",
        "dangling link": f"{name} of m cannot be read|has no config.json|has no weights",
    }.get(kind, f"{name} of m is not a regular file")
    with pytest.raises(InputError, match=says):
        FrozenLM.load(str(folder))


@pytest.mark.parametrize(
    "name",
    ["../m.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", ".hidden", "a\nb", "a*b", "a\\b", 3, None, []],
)
def test_a_shard_is_a_plain_file_name(folder: Path, name: object) -> None:
    index = "model.safetensors.index.json"
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": {"a": name}}))
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"safetensors\.index\.json of m names the file .* not a plain file name"):
        FrozenLM.load(str(folder))
    if name is not None:
        with pytest.raises(InputError, match="remove `transformers_weights` from it"):
            weight_names(name, "m")


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": {"a": "b"}}', "{", "[" * 10_000]
)
def test_an_index_that_is_none_is_refused(folder: Path, index: str) -> None:
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json of m "):
        shards_of(folder, "model.safetensors.index.json", "m")


def test_a_shard_that_is_missing_or_a_pointer_is_named(folder: Path) -> None:
    shard(folder, "safetensors")
    second = folder / "model-00002-of-00002.safetensors"
    second.write_text(POINTER)
    with pytest.raises(InputError, match=r"model-00002-of-00002\.safetensors of m is a Git LFS pointer"):
        FrozenLM.load(str(folder))
    second.unlink()
    with pytest.raises(InputError, match=r"m lacks model-00002-of-00002\.safetensors, a file of its weights"):
        FrozenLM.load(str(folder))


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("code-ran",)


def save(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def cut(path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


WRONG_BINS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pointer": (lambda path: path.write_text(POINTER), "is a Git LFS pointer"),
    "half a file": (cut, "is damaged"),
    "code": (save({"a": torch.ones(2), "x": Code()}), "holds code, which is never run"),
    "text": (lambda path: path.write_text("<html>404</html>"), "is damaged or holds code"),
    "nothing": (lambda path: path.write_bytes(b""), "is damaged"),
    "a list": (save([torch.ones(2)]), "something other than named dense tensors"),
    "a sparse tensor": (save({"a": torch.ones(2, 2).to_sparse()}), "something other than named dense tensors"),
    "a number as key": (save({1: torch.ones(2)}), "something other than named dense tensors"),
}


@pytest.mark.parametrize("what", WRONG_BINS)
def test_pickled_weights_that_are_none_are_refused_and_never_run(
    folder: Path, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, says = WRONG_BINS[what]
    (folder / "model.safetensors").unlink()
    spoil(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=f"pytorch_model.bin of m.* {says}"):
        FrozenLM.load(str(folder))
    assert not (tmp_path / "code-ran").exists()


def test_an_adapter_beside_or_in_the_place_of_a_model_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(InputError, match=r"m has an adapter next to its weights .*give that as --model.adapter"):
        FrozenLM.load(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"holds an adapter .*, not a model; give its base as the model"):
        FrozenLM.load(str(folder))


def test_a_file_beside_the_model_that_nobody_reads_may_be_anything(folder: Path) -> None:
    (folder / "trainer_state.json").write_text('{"loss": NaN}')
    os.mkfifo(folder / "notes.json")
    (folder / "training_args.bin").write_text(POINTER)
    assert FrozenLM.load(str(folder)).num_blocks == 4
