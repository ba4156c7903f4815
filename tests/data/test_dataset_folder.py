"""What a folder of text can hold that `datasets` would hang on, pass over or fail on: refused in one sentence."""

import os
from pathlib import Path

import pytest

from logos_pl.data.source import resolve
from logos_pl.errors import InputError
from tests.data.texts import folder_with, write_jsonl

CARD_PATH = "configs:\n- config_name: a\n  data_files: {}"


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        ("configs: [", r"mine/README\.md is not valid YAML \(.* in line 2\)"),
        ("configs: " + "[" * 100_000, r"mine/README\.md is nested deeper than 64 levels"),
        ("a: \x07", r"mine/README\.md holds the character U\+0007 in line 1"),
        ("configs: []\nconfigs: []", r"mine/README\.md has the key 'configs' twice"),
        ("a: !!int many", r"mine/README\.md holds a value that cannot be read"),
        ("a: 2026-02-31", "mine cannot be read: day is out of range"),  # a word for us, a date for `datasets`
        ("- a", r"mine/README\.md is not a mapping"),
        (b"\xff", r"mine/README\.md is not UTF-8 text \(.* in line 2\)"),
        ("configs: [1]", r"card of dataset .*mine does not describe its files .*TypeError.*fix its README\.md"),
        ("dataset_info: [1]", r"card of dataset .*mine does not describe its files .*AttributeError"),
        ("configs: 5", "mine cannot be read: Expected configs to be a list"),
        (CARD_PATH.format("[{split: train, path: 5}]"), "mine cannot be read: Expected data_files in YAML to be"),
        (CARD_PATH.format("../*/b.jsonl"), r"mine names b\.jsonl as its data, which is outside the folder"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) or len(value) > 30 else value[:12],
)
def test_a_broken_card_of_a_folder_is_one_sentence(tmp_path: Path, block: str | bytes, wanted: str) -> None:
    (tmp_path / "other").mkdir()
    write_jsonl(tmp_path / "other" / "b.jsonl", ["another's"])
    block = block if isinstance(block, bytes) else block.encode()
    with pytest.raises(InputError, match=wanted) as caught:
        resolve(str(folder_with(tmp_path, README__md=b"---\n" + block + b"\n---\n")))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_other_files_that_describe_a_folder_are_guarded_too(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, __huggingface__yaml="a: [", dataset_infos__json="[" * 100_000)
    with pytest.raises(InputError, match=r"\.huggingface\.yaml is not valid YAML"):
        resolve(str(folder))
    (folder / ".huggingface.yaml").unlink()
    with pytest.raises(InputError, match=r"dataset_infos\.json is nested deeper than 64 levels"):
        resolve(str(folder))


@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml", "dataset_infos.json", "b.jsonl", "sub/b.txt.zst"])
@pytest.mark.parametrize("target", [None, "/dev/zero"])
def test_a_pipe_or_a_device_in_a_folder_is_refused_at_once(tmp_path: Path, name: str, target: str | None) -> None:
    path = folder_with(tmp_path) / name
    path.parent.mkdir(exist_ok=True)
    if target is None:
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    with pytest.raises(InputError, match=rf"{name}.* is (not a|no) regular file"):
        resolve(str(tmp_path / "mine"))


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / "b.jsonl").symlink_to("gone")
    with pytest.raises(InputError, match=r"^b\.jsonl in .*mine is not a regular file, or is a broken link"):
        resolve(str(folder))


@pytest.mark.parametrize("name", ["t*", "t?", "t[12]", "a::b"])
def test_a_folder_that_would_be_taken_for_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    for folder in ("t1", "t2", name):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "a.jsonl", ["x"])
    with pytest.raises(InputError, match="cannot be read as a dataset, as its path holds one of"):
        resolve(str(tmp_path / name))


def test_a_file_that_would_be_passed_over_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    write_jsonl(folder / "b::c.jsonl", ["x"])
    with pytest.raises(InputError, match=r"^'b::c\.jsonl' in .*mine cannot be read, as its name holds ::"):
        resolve(str(folder))
    assert resolve(str(folder / "b::c.jsonl")).shards[0].name == "b::c.jsonl"


def test_a_disk_or_a_home_folder_is_not_searched_for_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logos_pl.data.dataset_folder.MAX_ENTRIES", 20)
    for number in range(21):
        (tmp_path / f"{number}.jsonl").write_text('{"text": "sun"}\n')
    with pytest.raises(InputError, match=r"holds more than 20 files and folders; give the folder of the text alone"):
        resolve(str(tmp_path), None, "train", None)
