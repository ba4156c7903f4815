import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import islice, takewhile
from pathlib import Path

import pytest

from logos_pl.data.lanes import (
    START,
    LaneCursor,
    Part,
    TrainText,
    content_hash,
    lane_documents,
    lane_parts,
    lane_sequences,
    read_alone,
)
from logos_pl.data.shards import Shard, Stride, read_rows
from logos_pl.data.tokenizing import TextRefusedError
from logos_pl.errors import InputError
from tests.data.texts import expected_side, make_texts, write_parquet

Corpus = Callable[..., tuple[Shard, ...]]
FRAC = 0.1


def tokenize(text: str) -> list[int]:
    return [0, *text.encode()]


def train_text(seq_len: int = 16, frac: float = FRAC) -> TrainText:
    return TrainText(tokenize, "text", frac, seq_len)


def fake_shards(count: int) -> tuple[Shard, ...]:
    return tuple(Shard(f"{i}.parquet", f"{i}.parquet") for i in range(count))


@pytest.mark.parametrize("num_shards", [1, 2, 3, 5, 8, 9, 20])
@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_every_row_of_every_shard_belongs_to_exactly_one_lane(num_shards: int, lanes: int) -> None:
    owners = Counter(
        (part.shard.name, row)
        for lane in range(lanes)
        for part in lane_parts(fake_shards(num_shards), lane, lanes)
        for row in range(30)
        if part.stride.holds(row)
    )
    assert owners == {(f"{shard}.parquet", row): 1 for shard in range(num_shards) for row in range(30)}


def test_lanes_have_whole_shards_when_there_are_enough() -> None:
    parts = lane_parts(fake_shards(5), 1, 2)
    assert parts == (Part(fake_shards(5)[1], Stride()), Part(fake_shards(5)[3], Stride()))


def oracle(texts: list[tuple[str, int, str]], seq_len: int, count: int) -> tuple[list[list[int]], list[str]]:
    """Sequences and chain after each, from plain concatenation of the train documents, pass after pass."""
    train = [(s, r, t) for s, r, t in texts if t.strip() and expected_side(t, FRAC) == "train"]
    stream: list[int] = []
    starts: list[tuple[int, str]] = []
    chain = "0" * 64
    while len(stream) < seq_len * count:
        for shard, row, text in train:
            link = f"{chain}\n{shard}\n{row}\n{hashlib.sha256(text.encode()).hexdigest()}"
            chain = hashlib.sha256(link.encode()).hexdigest()
            starts.append((len(stream), chain))
            stream += tokenize(text)
    sequences = [stream[seq_len * i : seq_len * (i + 1)] for i in range(count)]
    chains = [[c for at, c in starts if at < seq_len * (i + 1)][-1] for i in range(count)]
    return sequences, chains


def test_a_lane_is_its_train_documents_one_after_the_other_pass_after_pass(corpus: Corpus) -> None:
    shards = corpus(3, 12)
    texts = [(shards[s].name, row, t) for s in (0, 2) for row, t in enumerate(make_texts(s, 12))]
    count = 150  # several passes over about 700 tokens
    got = list(islice(lane_sequences(lane_parts(shards, 0, 2), train_text()), count))
    sequences, chains = oracle(texts, 16, count)
    assert [ids for ids, _ in got] == sequences
    assert [cursor.chain for _, cursor in got] == chains
    assert got[-1][1].pass_index >= 2


def test_cursors_count_documents_tokens_and_sequences(corpus: Corpus) -> None:
    shards = corpus(1, 12)
    lengths = [len(tokenize(t)) for t in make_texts(0, 12) if expected_side(t, FRAC) == "train"]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    for n, (_, cursor) in enumerate(islice(lane_sequences(lane_parts(shards, 0, 1), train_text()), 10), start=1):
        assert cursor.sequences == n
        assert cursor.tokens == 16 * n
        assert cursor.documents == sum(start < 16 * n for start in starts)


@pytest.mark.parametrize("seq_len", [1, 7, 64])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_going_on_from_every_cursor_gives_what_was_still_to_come(corpus: Corpus, seq_len: int, num_shards: int) -> None:
    shards = corpus(num_shards, 9, 30)
    parts = lane_parts(shards, 0, 2)
    total = {1: 700, 7: 120, 64: 24}[seq_len]
    text = train_text(seq_len)
    whole = list(islice(lane_sequences(parts, text), total))
    assert whole[-1][1].pass_index >= 1
    for done in range(0, total, 13 if seq_len == 1 else 1):
        cursor = LaneCursor._make(tuple(whole[done][1]))
        assert list(islice(lane_sequences(parts, text, cursor), 12)) == whole[done + 1 : done + 13][:12] or (
            done + 13 > total
        )


def test_a_cursor_after_the_last_row_goes_on_in_the_next_pass(tmp_path: Path) -> None:
    texts = [t for t in make_texts(0, 40) if expected_side(t, FRAC) == "train" and len(t) > 8][:3]
    write_parquet(tmp_path / "a.parquet", [t[:7] for t in texts])
    kept = [t[:7] for t in texts if expected_side(t[:7], FRAC) == "train"]
    parts = (Part(Shard("a.parquet", str(tmp_path / "a.parquet")), Stride()),)
    got = list(islice(lane_sequences(parts, train_text(8)), 2 * len(kept)))
    last_of_pass = got[len(kept) - 1][1]
    assert (last_of_pass.pass_index, last_of_pass.token_offset) == (0, 0)
    assert next(lane_sequences(parts, train_text(8), last_of_pass)) == got[len(kept)]
    assert got[len(kept)][1].pass_index == 1


def test_documents_longer_than_a_pack_lose_no_token(tmp_path: Path) -> None:
    long = next(t for t in (f"{i} " + "word " * 200 for i in range(50)) if expected_side(t, FRAC) == "train")
    write_parquet(tmp_path / "a.parquet", [long])
    parts = (Part(Shard("a.parquet", str(tmp_path / "a.parquet")), Stride()),)
    ids = tokenize(long) * 2
    got = [token for seq, _ in islice(lane_sequences(parts, train_text(32)), 40) for token in seq]
    assert got == ids[: len(got)]


def test_empty_blank_and_null_documents_take_a_row_and_give_nothing(tmp_path: Path) -> None:
    texts = [t for t in make_texts(3, 30) if expected_side(t, FRAC) == "train"][:4]
    write_parquet(tmp_path / "a.parquet", ["", texts[0], None, " \n\t", texts[1], texts[2], "", texts[3]])
    parts = (Part(Shard("a.parquet", str(tmp_path / "a.parquet")), Stride()),)
    rows = [("a.parquet", row, text) for row, text in zip((1, 4, 5, 7), texts, strict=True)]
    sequences, chains = oracle(rows, 16, 20)
    got = list(islice(lane_sequences(parts, train_text()), 20))
    assert [ids for ids, _ in got] == sequences
    assert [cursor.chain for _, cursor in got] == chains


def test_no_held_out_text_is_trained_on(corpus: Corpus) -> None:
    shards = corpus(2, 40)
    by_tokens = {tuple(tokenize(t)): t for s in range(2) for t in make_texts(s, 40)}
    seen: list[int] = []
    for lane in range(4):
        for ids, cursor in lane_sequences(lane_parts(shards, lane, 4), train_text()):
            if cursor.pass_index > 0:
                break
            seen += ids
    documents = "".join("\0" if token == 0 else chr(token) for token in seen)
    held_out = [t for t in by_tokens.values() if expected_side(t, FRAC) != "train"]
    assert len(held_out) > 5
    assert not [t for t in held_out if f"\0{t}\0" in documents]


def test_fits_on_the_parts_of_a_text_share_no_document_and_leave_none_out(corpus: Corpus) -> None:
    parts = lane_parts(corpus(3, 40), 0, 1)

    def once(part: tuple[int, int]) -> set[tuple[str, int]]:
        documents = lane_documents(parts, train_text()._replace(part=part), START, read_alone)
        return {(place.shard, place.row) for place, _ in takewhile(lambda found: found[0].pass_index == 0, documents)}

    one, two, whole = once((1, 2)), once((2, 2)), once((1, 1))
    assert min(len(one), len(two)) > 20
    assert one & two == set()
    assert one | two == whole


def test_a_lane_without_a_train_document_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["", " ", None])
    parts = (Part(Shard("a.parquet", str(tmp_path / "a.parquet")), Stride()),)
    with pytest.raises(InputError, match=r"^There is no document to train on in a\.parquet; lower --data\.lanes"):
        next(lane_sequences(parts, train_text()))


def test_a_cursor_of_another_dataset_is_refused(corpus: Corpus) -> None:
    parts = lane_parts(corpus(1, 12), 0, 1)
    with pytest.raises(InputError, match=r"continues in shard elsewhere\.parquet"):
        next(lane_sequences(parts, train_text(), LaneCursor(shard="elsewhere.parquet")))


def test_a_document_that_changed_under_a_cursor_is_noticed(corpus: Corpus) -> None:
    shards = corpus(1, 12)
    parts = lane_parts(shards, 0, 1)
    cursor = next(c for _, c in lane_sequences(parts, train_text()) if c.token_offset > 0)
    texts: list[str | None] = list(make_texts(0, 12))
    texts[cursor.row] = None
    write_parquet(Path(shards[0].url), texts)
    with pytest.raises(InputError, match=rf"^Row {cursor.row} of shard 000\.parquet is not the document"):
        next(lane_sequences(parts, train_text(), cursor))


def test_the_content_hash_covers_every_lane_in_order() -> None:
    a, b = LaneCursor(chain="a" * 64), LaneCursor(chain="b" * 64)
    assert content_hash({0: a, 1: b}) == content_hash({1: b, 0: a})
    assert len({content_hash({0: a, 1: b}), content_hash({0: b, 1: a}), content_hash({0: a})}) == 3


def test_the_reader_starts_at_the_cursors_row_without_decoding_earlier_row_groups(corpus: Corpus) -> None:
    """The first row group is overwritten: a reader that starts behind it never notices."""
    (shard,) = corpus(1, 12)
    import pyarrow.parquet as pq

    column = pq.ParquetFile(shard.url).metadata.row_group(0).column(1)
    data = bytearray(Path(shard.url).read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    Path(shard.url).write_bytes(data)
    assert [text for _, text in read_rows(shard, "text", 5)] == make_texts(0, 12)[5:]


def test_a_document_that_the_model_cannot_read_is_named_by_shard_and_row(corpus: Corpus) -> None:
    def refuse(text: str) -> list[int]:
        if text.startswith("0.7"):
            raise TextRefusedError("holds the token 'x'.")
        return tokenize(text)

    parts = lane_parts(corpus(1, 40), 0, 1)
    with pytest.raises(InputError, match=r"^Row 7 of shard 000\.parquet holds the token 'x'\.$"):
        list(islice(lane_sequences(parts, TrainText(refuse, "text", 0.01, 16)), 60))
