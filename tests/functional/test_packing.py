import pytest

from logos_pl.functional.packing import Pack, pack


def test_documents_that_fill_packs_exactly_are_cut_nowhere() -> None:
    packs = list(pack([("a", [1, 2]), ("b", [3, 4])], 2))
    assert packs == [Pack([1, 2], ("a",), "a", 2, True), Pack([3, 4], ("b",), "b", 2, True)]


def test_a_document_that_does_not_fit_goes_on_in_the_next_pack() -> None:
    packs = list(pack([("a", [1, 2, 3]), ("b", [4, 5, 6, 7, 8])], 4))
    assert packs == [Pack([1, 2, 3, 4], ("a", "b"), "b", 1, False), Pack([5, 6, 7, 8], (), "b", 5, True)]


def test_a_document_longer_than_several_packs_is_split_over_them() -> None:
    packs = list(pack([("long", range(10))], 3))
    assert [p.tokens for p in packs] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert [p.next_offset for p in packs] == [3, 6, 9]
    assert [p.started for p in packs] == [("long",), (), ()]
    assert not packs[-1].last_ended


def test_many_short_documents_share_a_pack_and_are_all_named_in_order() -> None:
    (only,) = pack([("a", [1]), ("b", [2]), ("c", [3]), ("d", [4, 5])], 4)
    assert only == Pack([1, 2, 3, 4], ("a", "b", "c", "d"), "d", 1, False)


def test_a_document_without_tokens_is_never_started() -> None:
    (only,) = pack([("empty", []), ("a", [1]), ("void", []), ("b", [2])], 2)
    assert only == Pack([1, 2], ("a", "b"), "b", 1, True)


def test_tokens_after_the_last_full_pack_are_not_yielded() -> None:
    assert [p.tokens for p in pack([("a", [1, 2, 3])], 2)] == [[1, 2]]
    assert list(pack([], 2)) == []


def test_skipped_tokens_belong_to_the_first_document_only_and_do_not_start_it() -> None:
    packs = list(pack([("a", [1, 2, 3]), ("b", [4, 5, 6])], 2, skip_tokens=1))
    assert packs == [Pack([2, 3], (), "a", 3, True), Pack([4, 5], ("b",), "b", 2, False)]


def test_packs_in_a_row_are_the_documents_in_a_row_for_every_length() -> None:
    documents = [(n, list(range(100 * n, 100 * n + n))) for n in (3, 0, 7, 1, 1, 12, 2)]
    stream = [token for _, ids in documents for token in ids]
    for seq_len in range(1, len(stream) + 2):
        packed = [token for p in pack(documents, seq_len) for token in p.tokens]
        assert packed == stream[: len(stream) // seq_len * seq_len]


def test_going_on_after_any_pack_gives_the_packs_that_were_still_to_come() -> None:
    documents = [(n, list(range(100 * n, 100 * n + n))) for n in (3, 7, 1, 12, 2, 9)]
    keys = [key for key, _ in documents]
    packs = list(pack(documents, 4))
    for done, last in enumerate(packs, start=1):
        rest = documents[keys.index(last.last) + last.last_ended :]
        skip = 0 if last.last_ended else last.next_offset
        assert list(pack(rest, 4, skip)) == packs[done:]


@pytest.mark.parametrize(("seq_len", "skip"), [(0, 0), (4, -1)])
def test_lengths_that_mean_nothing_are_refused(seq_len: int, skip: int) -> None:
    with pytest.raises(ValueError, match="seq_len"):
        list(pack([], seq_len, skip))
