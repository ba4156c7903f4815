import re
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from logos_pl.data.held_out import Side, held_out_sequences, in_part, side, text_digest
from logos_pl.data.shards import Shard
from logos_pl.data.tokenizing import TextRefusedError
from logos_pl.errors import InputError
from logos_pl.io.progress import DISPLAY
from tests.data.texts import expected_side, make_texts, write_parquet

Corpus = Callable[..., tuple[Shard, ...]]


def tokenize(text: str) -> list[int]:
    return list(text.encode())


def remembering(seen: list[str]) -> Callable[[str], list[int]]:
    def tokenize_and_remember(text: str) -> list[int]:
        seen.append(text)
        return tokenize(text)

    return tokenize_and_remember


def test_sides_follow_the_hash_of_the_text_and_their_shares_are_kept() -> None:
    texts = [text for shard in range(20) for text in make_texts(shard, 200)]
    sides = [side(text_digest(text), 0.1) for text in texts]
    assert sides == [expected_side(text, 0.1) for text in texts]
    shares: list[tuple[Side, float]] = [("val", 0.1), ("test", 0.1), ("train", 0.8)]
    for which, share in shares:  # 4000 texts: standard deviation 19 and 25
        assert abs(sides.count(which) - 4000 * share) < 90


def test_parts_are_disjoint_cover_all_and_do_not_depend_on_the_side() -> None:
    texts = [text for shard in range(20) for text in make_texts(shard, 200)]
    for parts in (1, 2, 3):
        of = [
            [number for number in range(1, parts + 1) if in_part(text_digest(text), (number, parts))] for text in texts
        ]
        assert all(len(found) == 1 for found in of)
        for number in range(1, parts + 1):  # standard deviation below 32
            assert abs(of.count([number]) - len(texts) / parts) < 130
    held = [text for text in texts if side(text_digest(text), 0.25) == "val"]
    assert abs(sum(in_part(text_digest(text), (1, 2)) for text in held) - len(held) / 2) < 65


@pytest.mark.parametrize(
    ("u", "expected"),
    [(0, "val"), (2**62 - 1, "val"), (2**62, "test"), (2**63 - 1, "test"), (2**63, "train"), (2**64 - 1, "train")],
)
def test_a_side_takes_its_lower_edge_and_not_its_upper_one(u: int, expected: str) -> None:
    assert side(u.to_bytes(8, "big") + b"\xff" * 24, 0.25) == expected


def test_held_out_sequences_are_the_first_ones_of_their_side_packed_in_order(corpus: Corpus) -> None:
    shards = corpus(3, 40)
    found = held_out_sequences({"val": 9, "test": 6}, shards, "text", 0.2, 16, tokenize)
    texts = [text for shard in range(3) for text in make_texts(shard, 40)]
    sides: list[tuple[Side, int]] = [("val", 9), ("test", 6)]
    for which, count in sides:
        stream = [token for text in texts if expected_side(text, 0.2) == which for token in tokenize(text)]
        assert found[which] == [stream[16 * i : 16 * (i + 1)] for i in range(count)]


def test_only_held_out_documents_are_tokenised_and_no_more_of_them_than_needed(corpus: Corpus) -> None:
    seen: list[str] = []
    held_out_sequences({"val": 1, "test": 20}, corpus(3, 40), "text", 0.2, 16, remembering(seen))
    assert seen
    assert {expected_side(text, 0.2) for text in seen} == {"val", "test"}
    val = [text for text in seen if expected_side(text, 0.2) == "val"]
    assert sum(map(len, val[:-1])) < 16


def test_too_little_held_out_text_is_refused_with_both_counts_and_the_options(corpus: Corpus) -> None:
    message = (
        r"^Not enough held-out text: found \d+ of 500 val sequences, 1 of 1 test sequences in 40 documents; "
        r"lower --data\.val_seqs, or raise --data\.held_out_frac\.$"
    )
    with pytest.raises(InputError, match=message):
        held_out_sequences({"val": 500, "test": 1}, corpus(1, 40), "text", 0.2, 16, tokenize)


def test_the_search_is_given_up_after_so_many_documents(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="in 25 documents"):
        held_out_sequences({"val": 500}, corpus(1, 40), "text", 0.2, 16, tokenize, max_documents=25)


def test_empty_and_null_documents_are_not_held_out(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["", None, " \n", *make_texts(0, 30)])
    shards = (Shard("a.parquet", str(tmp_path / "a.parquet")),)
    seen: list[str] = []
    held_out_sequences({"val": 5}, shards, "text", 0.49, 8, remembering(seen))
    assert all(text.strip() for text in seen)


def test_nothing_wanted_reads_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    shards = (Shard("gone.parquet", "gone.parquet"),)
    assert held_out_sequences({"val": 0}, (), "text", 0.1, 8, tokenize) == {"val": []}
    assert held_out_sequences({"val": 0, "test": 0}, shards[:0], "text", 0.1, 8, tokenize) == {"val": [], "test": []}


def test_a_long_search_says_how_far_it_is(
    corpus: Corpus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(10**6))
    monkeypatch.setattr(DISPLAY, "clock", lambda: float(next(now)))
    held_out_sequences({"val": 3}, corpus(1, 40), "text", 0.2, 16, tokenize)
    first = capsys.readouterr().out.splitlines()[0]
    assert re.match(r"held-out text: \d of 3 sequences · of \d+ documents · ", first)


def test_a_held_out_document_that_the_model_cannot_read_is_named_by_shard_and_row(corpus: Corpus) -> None:
    first = next(row for row, text in enumerate(make_texts(0, 40)) if expected_side(text, 0.2) == "val")

    def refuse(text: str) -> list[int]:
        raise TextRefusedError("holds the token 'x'.")

    with pytest.raises(InputError, match=rf"^Row {first} of shard 000\.parquet holds the token 'x'\.$"):
        held_out_sequences({"val": 3}, corpus(1, 40), "text", 0.2, 16, refuse)


def test_a_dataset_without_a_row_is_refused_for_that(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(InputError, match=r"^There is no row in a\.jsonl; give a dataset with text\.$"):
        held_out_sequences({"val": 3}, (Shard("a.jsonl", str(tmp_path / "a.jsonl")),), "text", 0.2, 16, tokenize)
