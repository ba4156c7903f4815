import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from logos_pl.data.held_out import Side
from logos_pl.data.held_out_text import HeldOutText, num_text_bytes, rank_and_world_size, refuse_other_share
from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.packed_text import HeldOutBatches
from logos_pl.data.shards import Shard
from logos_pl.errors import InputError
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TextSettings
from tests.data.texts import expected_side, make_texts

Find = Callable[..., HeldOutText]


@pytest.fixture
def find(corpus: Callable[..., tuple[Shard, ...]], byte_model: ModelTokenizer) -> Find:
    """Held-out text of 3 shards of 80 texts."""
    folder = str(Path(corpus(3, 80)[0].url).parent)
    small: dict[str, Any] = {"seq_len": 16, "held_out_frac": 0.1, "micro_batch_seqs": 2, "dataset": folder}

    def found(wanted: dict[Side, int] | None = None, **options: Any) -> HeldOutText:
        settings = resolve_text(TextSettings(**(small | options)), "full", byte_model.num_ids)
        return HeldOutText.find(settings, byte_model, wanted or {"val": 6, "test": 6})

    return found


def trainer(rank: int, world_size: int) -> Any:
    return SimpleNamespace(global_rank=rank, world_size=world_size)


def rows(batches: HeldOutBatches) -> list[tuple[list[int], list[int]]]:
    return [row for batch in batches for row in zip(batch.input_ids.tolist(), batch.positions.tolist(), strict=True)]


@pytest.mark.parametrize("which", ["val", "test"])
@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_processes_share_held_out_sequences_and_measure_the_same_positions_as_one(
    find: Find, which: Side, world_size: int
) -> None:
    text = find(positions_per_seq=3, position_range=(0.60, 0.95))
    one = rows(text.batches(which, None))
    several = [row for rank in range(world_size) for row in rows(text.batches(which, trainer(rank, world_size)))]
    assert len(one) == 6
    assert sorted(several) == sorted(one)
    assert rows(text.all_batches(which)) == one


@pytest.mark.parametrize("which", ["val", "test"])
def test_what_processes_cannot_share_evenly_is_refused(find: Find, which: Side) -> None:
    wanted = rf"6 held-out sequences .* 4 processes; make --data\.{which}_seqs a multiple of 4"
    with pytest.raises(InputError, match=wanted):
        find().batches(which, trainer(0, 4))


@pytest.mark.parametrize("which", ["val", "test"])
def test_the_sequences_of_a_side_are_the_same_whether_or_not_the_other_is_wanted(find: Find, which: Side) -> None:
    assert find({which: 6}).sequences[which] == find({"val": 6, "test": 6}).sequences[which]
    assert find({which: 4}).sequences[which] == find({which: 6}).sequences[which][:4]


def test_each_side_is_packed_from_its_own_documents(find: Find, byte_model: ModelTokenizer) -> None:
    text = find()
    texts = [text for shard in range(3) for text in make_texts(shard, 80)]
    for which, sequences in text.sequences.items():
        tokens = [token for sequence in sequences for token in sequence]
        own = [
            token
            for text in texts
            if expected_side(text, 0.1) == which
            for token in byte_model.tokenizer(text).input_ids
        ]
        assert tokens == own[: len(tokens)]
        assert {len(sequence) for sequence in sequences} == {16}


def test_held_out_text_is_read_at_no_more_than_32_positions_whatever_is_trained_on(find: Find) -> None:
    for asked, read in ((5, 5), (32, 32), (33, 32), (56, 32)):
        text = find({"val": 2}, seq_len=64, positions_per_seq=asked)
        (batch,) = text.batches("val", None)
        assert batch.positions.shape == (2, read)
        assert text.draw("val").num_positions == read


def test_the_two_sides_are_read_at_other_positions_within_the_range(find: Find) -> None:
    text = find(seq_len=64, positions_per_seq=8, position_range=(0.25, 0.75))
    val, test = (torch.cat([batch.positions for batch in text.batches(which, None)]) for which in ("val", "test"))
    assert not torch.equal(val, test)
    assert min(val.min(), test.min()) >= 16
    assert max(val.max(), test.max()) < 48


def test_a_process_outside_of_a_run_is_the_only_one() -> None:
    assert rank_and_world_size(None) == (0, 1)
    assert rank_and_world_size(trainer(2, 5)) == (2, 5)


def test_another_share_than_was_held_out_from_training_is_refused() -> None:
    refuse_other_share(0.02, 0.02)
    with pytest.raises(InputError) as caught:
        refuse_other_share(0.05, 0.02)
    assert str(caught.value) == (
        "The lens was fitted with 0.02 of the documents held out; with --data.held_out_frac 0.05 it would be "
        "evaluated on text it has seen: give --data.held_out_frac 0.02."
    )


def test_bytes_are_counted_as_utf8_and_special_tokens_not_at_all(byte_model: ModelTokenizer) -> None:
    texts = ["naïve Σ", "a", ""]
    sequences = [byte_model.tokenizer(text).input_ids for text in texts]
    num_bytes = sum(len(text.encode()) for text in texts)
    assert sum(map(len, sequences)) == num_bytes + 3, "one token per byte, and a BOS"
    assert num_text_bytes(iter(sequences), byte_model) == (num_bytes, num_bytes)


def test_what_is_read_is_told_in_plain_values(find: Find, tmp_path: Path) -> None:
    text = find(text_column="text", positions_per_seq=40, seq_len=64, position_range=(0.25, 1.0))
    assert text.identity() | {"shards": None} == {
        "shards": None,
        "dataset": "corpus",
        "name": None,
        "split": "train",
        "commit": None,
        "format": "text",
        "text_column": "text",
        "special_tokens": "auto",
        "held_out_frac": 0.1,
        "seq_len": 64,
    }
    assert text.reading() == {"micro_batch_seqs": 2, "positions_per_seq": 40, "position_range": [0.25, 1.0]}
    (tmp_path / "corpus" / "000.parquet").rename(tmp_path / "corpus" / "9.parquet")
    assert text.identity()["shards"] != find(seq_len=64).identity()["shards"]


def test_conversations_are_held_out_by_what_they_say_and_packed_as_their_template_renders_them(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tokenizer, "chat_template", "<s>{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
    )
    rows = [[{"role": "user", "content": text}] for text in make_texts(0, 120)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    settings = resolve_text(
        TextSettings(dataset=str(tmp_path / "a.jsonl"), format="chat", seq_len=16, held_out_frac=0.2), "full", 257
    )
    text = HeldOutText.find(settings, ModelTokenizer("m", tokenizer, len(tokenizer), None), {"val": 5})
    said = [row for row in rows if expected_side(json.dumps(row, separators=(",", ":")), 0.2) == "val"]
    packed = "".join(f"<s>user:{row[0]['content']};" for row in said)
    ids = tokenizer(packed, add_special_tokens=False).input_ids
    assert [id_ for sequence in text.sequences["val"] for id_ in sequence] == ids[: 5 * 16]
    assert (text.identity()["format"], text.identity()["text_column"]) == ("chat", "messages")
