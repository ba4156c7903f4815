import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from logos_pl.data.shards import read_rows
from logos_pl.data.source import KNOWN_DATASETS, resolve
from logos_pl.errors import InputError
from logos_pl.lm import hub_call
from tests.data.fake_hub import COMMIT, fake_hub
from tests.data.texts import folder_with, make_texts, write_jsonl, write_parquet

CARD = """---
configs:
- config_name: {0}
  data_files:
  - split: train
    path: data/{0}/*.parquet
{1}---
"""
SECOND = """- config_name: other
  data_files:
  - split: train
    path: data/other/*.parquet
"""


def folder_like_fineweb(root: Path, second: str = "") -> Path:
    (root / "data" / "DUMP").mkdir(parents=True)
    for shard in (2, 0, 1):
        write_parquet(root / "data" / "DUMP" / f"00{shard}.parquet", make_texts(shard, 3))
    if second:
        (root / "data" / "other").mkdir()
        write_parquet(root / "data" / "other" / "x.parquet", ["other"])
    (root / "README.md").write_text(CARD.format("DUMP", second))
    return root


def test_a_folder_laid_out_like_a_hub_dataset_needs_nothing_but_its_path(tmp_path: Path) -> None:
    source = resolve(str(folder_like_fineweb(tmp_path / "mine")))
    assert source._replace(shards=()) == ("mine", "DUMP", "train", None, None, ())
    assert [shard.name for shard in source.shards] == [f"data/DUMP/00{shard}.parquet" for shard in range(3)]
    assert [text for _, text in read_rows(source.shards[1], "text")] == make_texts(1, 3)


def test_one_of_several_configurations_is_chosen_by_name(tmp_path: Path) -> None:
    folder = folder_like_fineweb(tmp_path / "mine", SECOND)
    assert [shard.name for shard in resolve(str(folder), "other").shards] == ["data/other/x.parquet"]
    with pytest.raises(InputError, match=r"mine has several configurations \['DUMP', 'other'\]; .*--data\.name\.$"):
        resolve(str(folder))


def test_an_unknown_configuration_or_split_is_refused_with_those_there_are(tmp_path: Path) -> None:
    folder = folder_like_fineweb(tmp_path / "mine")
    with pytest.raises(InputError, match=r"has no configuration 'nope', only \['DUMP'\]; choose one with --data\.name"):
        resolve(str(folder), "nope")
    with pytest.raises(InputError, match=r"has no split 'test', only train; choose one with --data\.split"):
        resolve(str(folder), split="test")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt", "a.parquet"])
def test_a_plain_folder_or_a_single_file_is_a_dataset(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    if name.endswith(".txt"):
        (folder / name).write_text("one\n\ntwo\n")
    else:
        (write_parquet if name.endswith(".parquet") else write_jsonl)(folder / name, ["one", "two"])
    for given, repo_id in ((folder, "plain"), (folder / name, name)):
        source = resolve(str(given))
        assert (source.repo_id, source.name, [shard.name for shard in source.shards]) == (repo_id, None, [name])
        assert [text for _, text in read_rows(source.shards[0], "text")] == ["one", "two"]


def test_a_relative_path_stays_readable_after_the_folder_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    monkeypatch.chdir(tmp_path)
    file, folder = resolve("a.jsonl"), resolve(".")
    monkeypatch.chdir("/")
    assert list(read_rows(file.shards[0], "text")) == list(read_rows(folder.shards[0], "text")) == [(0, "one")]
    assert folder.repo_id == tmp_path.name


@pytest.mark.parametrize(("name", "split"), [("x", "train"), (None, "test")])
def test_a_single_file_has_no_configuration_and_no_other_split(tmp_path: Path, name: str | None, split: str) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    with pytest.raises(InputError, match=r"is a single file, .*leave out --data\.name and --data\.split"):
        resolve(str(tmp_path / "a.jsonl"), name, split)


def test_files_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\none\n")
    for given in (tmp_path, tmp_path / "a.csv"):
        with pytest.raises(InputError, match=r"holds a\.csv, which is not of a supported format \(\.json, .*\)"):
            resolve(str(given))


def test_a_path_that_is_not_there_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^There is no folder or file .*/nowhere; .*--data\.dataset\.$"):
        resolve(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"holds no data files; give a dataset of files of these kinds"):
        resolve(str(tmp_path))


def test_an_unwritable_cache_does_not_keep_a_local_copy_from_being_read(tmp_path: Path) -> None:
    folder = folder_like_fineweb(tmp_path / "mine")
    code = f"from logos_pl.data.source import resolve; print(len(resolve({str(folder)!r}).shards))"
    assert in_another_process(code, HF_HOME="/dev/null/nothing").strip() == "3"


def test_fineweb_edu_has_a_default_configuration_and_revision() -> None:
    assert KNOWN_DATASETS["HuggingFaceFW/fineweb-edu"] == ("CC-MAIN-2025-26", "v1.4.0")


def test_the_demo_text_is_found_by_its_name() -> None:
    source = resolve("demo")
    assert (source.repo_id, source.split, source.commit) == ("demo", "train", None)
    assert len(source.shards) >= 1


def test_the_reference_corpus_is_read_by_name_and_without(shared: Path) -> None:
    for name in ("CC-MAIN-2025-26", None):
        source = resolve(str(shared / "corpus" / "fineweb-edu-local"), name)
        assert source.name == "CC-MAIN-2025-26"
        assert len(source.shards) == 4
        rows = list(read_rows(source.shards[0], "text", 1000))
        assert rows[0][0] == 1000
        assert len(rows) == 41


def in_another_process(code: str, **environment: str) -> str:
    """What code prints with other settings of the Hub, which are read when huggingface_hub is first imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.getcwd(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ASK_HUB = """
import json
from logos_pl.data.shards import read_rows
from logos_pl.data.source import resolve
from logos_pl.errors import InputError
for question in {questions}:
    try:
        source = resolve(*question)
        answer = [source[:5], [s.name for s in source.shards], list(read_rows(source.shards[0], "text", 2))]
    except InputError as error:
        answer = str(error)
    print(json.dumps(answer))
"""


def parquet_bytes(texts: list[str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), buffer, row_group_size=5)
    return buffer.getvalue()


def test_a_hub_dataset_is_read_at_its_commit_and_every_refusal_is_one_sentence(tmp_path: Path) -> None:
    files = {
        "data/small/1.parquet": parquet_bytes(["last"]),
        "data/small/0.parquet": parquet_bytes(make_texts(0, 12)),
    }
    questions = [
        ("org/open", "small"),
        ("org/open", "small", "train", "v1"),
        ("org/open",),
        ("org/open", "nope"),
        ("org/open", "other"),
        ("org/open", "small", "test"),
        ("org/open", "small", "train", "no-such-revision"),
        ("org/gated",),
        ("org/nothing",),
        ("not a repo id",),
    ]
    with fake_hub(files) as url:
        lines = in_another_process(ASK_HUB.format(questions=questions), HF_ENDPOINT=url, HF_HOME=str(tmp_path))
    answers = [json.loads(line) for line in lines.splitlines()]
    shards = ["data/small/0.parquet", "data/small/1.parquet"]
    rows = [list(row) for row in enumerate(make_texts(0, 12))][2:]
    assert answers[0] == [["org/open", "small", "train", "main", COMMIT], shards, rows]
    assert answers[1] == [["org/open", "small", "train", "v1", COMMIT], shards, rows]
    for answer, expected in zip(
        answers[2:],
        [
            "Dataset org/open has several configurations ['small', 'other']; choose one with --data.name.",
            "Dataset org/open has no configuration 'nope', only ['small', 'other']; choose one with --data.name.",
            "org/open holds no data files;",
            "Dataset org/open has no split 'test', only train; choose one with --data.split.",
            "Dataset org/open has no revision 'no-such-revision'; give a branch, tag or commit of it",
            "Dataset org/gated is gated: accept its conditions on https://huggingface.co/datasets/org/gated and log in",
            "There is no dataset org/nothing on the Hub that you can access",
            "There is no dataset not a repo id on the Hub that you can access",
        ],
        strict=True,
    ):
        assert answer.startswith(expected), answer


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_a_network_a_hub_dataset_is_refused_at_once(tmp_path: Path, offline: str) -> None:
    code = ASK_HUB.format(questions=[("org/open", "small")])
    answer = in_another_process(code, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path), HF_HUB_OFFLINE=offline)
    assert "the Hub cannot be reached" in answer
    assert "give a local copy with --data.dataset." in answer


@pytest.mark.parametrize(
    ("dataset", "wanted"),
    [
        ("", "--data.dataset is empty"),
        ("/dev/null", "neither a folder nor a regular file"),
        ("./" + "x" * 300, "There is no folder or file"),
        ("~nobody-of-that-name/x", "There is no folder or file ~nobody"),
        ("./a\0b", "There is no folder or file"),
    ],
)
def test_a_name_that_no_disk_takes_is_a_dataset_that_is_not_there(dataset: str, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        resolve(dataset)


def test_compressed_lines_and_text_are_datasets_and_compressed_parquet_is_none(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / "a.jsonl").rename(folder / "a.jsonl.zst")
    (folder / "a.jsonl.zst").write_bytes(pa.compress(b'{"text": "x"}', "zstd", asbytes=True))
    (shard,) = resolve(str(folder)).shards
    assert list(read_rows(shard, "text")) == [(0, "x")]
    (folder / "b.parquet.zst").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"b\.parquet\.zst, which is not of a supported format .* also with \.gz, .* and \.parquet\)"
    ):
        resolve(str(folder / "b.parquet.zst"))


def test_a_hub_that_never_answers_about_a_dataset_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    never = threading.Event()
    monkeypatch.setattr(hub_call, "SAY_AFTER_S", 0.05)
    monkeypatch.setattr(hub_call, "GIVE_UP_AFTER_S", 0.1)
    monkeypatch.setattr(HfApi, "dataset_info", lambda *args, **options: never.wait())
    with pytest.raises(InputError, match=r"org/silent .* the Hub cannot be reached \(TimeoutError\)"):
        resolve("org/silent")
    never.set()
    assert "waiting for https://huggingface.co about the data set org/silent …" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.zip", "b.tar"])
def test_an_archive_that_is_none_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / name).write_bytes(b"no archive")
    with pytest.raises(InputError, match="only") as caught:
        resolve(str(tmp_path / "only"))
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_utf8_is_refused_before_it_would_be_recorded(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.jsonl")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / name).write_text('{"text": "sun"}\n')
    (tmp_path / os.fsdecode(b"\xfe")).mkdir()
    (tmp_path / "link").symlink_to(os.fsdecode(b"\xfe"))
    for path in ("text", "link"):
        with pytest.raises(InputError, match=r"cannot be recorded, as .* not UTF-8; rename it"):
            resolve(str(tmp_path / path))


def test_a_revision_of_a_local_dataset_is_refused_rather_than_passed_over(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["sun"])
    for dataset in ("demo", str(tmp_path)):
        with pytest.raises(InputError, match=r"revision v1 needs a dataset on the Hub, but .* is local: leave"):
            resolve(dataset, revision="v1")
