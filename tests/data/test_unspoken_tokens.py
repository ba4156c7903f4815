"""Where items are read, and which of them cannot be scored."""

import pytest

from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.spellings import FirstTokens
from logos_pl.data.token_strings import TokenStrings
from logos_pl.data.unspoken import UnspokenItem
from logos_pl.data.unspoken_tokens import REASONS, TokenizedItem, UnspokenBatches, tokenize_suite


@pytest.fixture(scope="module")
def demo() -> ModelTokenizer:
    return ModelTokenizer.load("demo")


def item(prompt: str = "Anna left", words: tuple[str, ...] = ("Berlin",), **more: object) -> UnspokenItem:
    given = UnspokenItem(f"i{len(prompt)}", "mine", prompt, tuple((word,) for word in words))
    return given._replace(**more)


def scored(demo: ModelTokenizer, given: UnspokenItem) -> TokenizedItem:
    suite = tokenize_suite([given], demo)
    assert suite.unscored == []
    return suite.items[0]


def texts(demo: ModelTokenizer, ids: tuple[int, ...]) -> list[str]:
    return list(map(TokenStrings(demo.tokenizer), ids))


def test_an_item_is_read_at_the_last_token_of_its_prompt(demo: ModelTokenizer) -> None:
    found = scored(demo, item(target=("Rome",)))
    assert found.ids == tuple(demo.encoder()("Anna left"))
    assert (found.place, found.end) == (len(found.ids) - 1, len(found.ids) - 1)
    assert texts(demo, found.intermediates[0]) == [" Berlin"]


def test_an_item_is_read_after_a_text_where_it_occurs_last(demo: ModelTokenizer) -> None:
    found = scored(demo, item("Anna left\nand Anna met\nBen", read_after="\n"))
    whole = texts(demo, found.ids)
    assert found.place == len(whole) - 1 - whole[::-1].index("\n")
    assert "".join(whole[found.place + 1 :]) == "Ben"
    assert found.end == len(whole) - 1


def test_a_space_that_becomes_part_of_the_answer_is_not_read_by_itself(demo: ModelTokenizer) -> None:
    assert scored(demo, item("Anna left ", target=("Rome",))).ids == scored(demo, item("Anna left")).ids
    assert scored(demo, item("Anna left ")).ids == scored(demo, item("Anna left")).ids


def test_a_space_that_stays_a_token_is_read(demo: ModelTokenizer) -> None:
    """` 20` is a space and two digits for this tokenizer: the answer begins after the space."""
    found = scored(demo, item("Four times five is ", words=("nine",), target=("20",)))
    assert texts(demo, found.ids)[-1] == " "


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (item(words=("20",), single_token=True), "no_spelling"),
        (item(words=("Berlin", "20"), single_token=True), "no_spelling"),
        (item(words=("5",), target=("50",)), "shared_first_token"),
        (item(words=("Berlin",), target=("Berlin",)), "shared_first_token"),
        (item("Anna left", read_after="Anna le"), "place_merges"),
        (item("Anna left " * 300), "too_long"),
    ],
)
def test_an_item_that_cannot_be_scored_is_named_with_its_reason(
    demo: ModelTokenizer, given: UnspokenItem, reason: str
) -> None:
    suite = tokenize_suite([given, item("Ben left")], demo)
    assert suite.unscored == [(given, reason)]
    assert suite.counts() == {reason: 1}
    assert reason in REASONS
    assert [found.item.prompt for found in suite.items] == ["Ben left"]


def test_a_prompt_beyond_the_tokenizer_cannot_be_scored(demo: ModelTokenizer) -> None:
    smaller = demo._replace(num_ids=FirstTokens(demo.encoder())(["Berlin"])[0] + 1)
    beyond = next(
        word for word in ("Havana", "umbrella", "neighbour") if max(demo.encoder().plain(f" {word}")) >= smaller.num_ids
    )
    suite = tokenize_suite([item(f"Anna left {beyond}")], smaller)
    assert suite.counts() == {"not_tokenised": 1}


def test_batches_hold_every_item_of_a_process_once_with_place_and_end(demo: ModelTokenizer) -> None:
    given = [item(f"{'Anna left ' * n}home\nand Ben", read_after="\n" if n % 2 else None) for n in range(1, 80)]
    items = tokenize_suite(given, demo).items
    seen = []
    for rank in range(3):
        for batch in UnspokenBatches(items, rank, 3):
            for number, ids, mask, places in zip(
                batch.numbers, batch.input_ids, batch.attention_mask, batch.positions.tolist(), strict=True
            ):
                assert tuple(ids[mask.bool()].tolist()) == items[number].ids
                assert (places[0], places[-1]) == (items[number].place, items[number].end)
                assert number % 3 == rank
                seen.append(number)
    assert sorted(seen) == list(range(len(given)))


def test_a_single_position_is_read_where_all_items_are_read_at_their_end(demo: ModelTokenizer) -> None:
    items = tokenize_suite([item("Anna left"), item("Ben left home")], demo).items
    (batch,) = UnspokenBatches(items)
    assert batch.positions.tolist() == [[items[0].end], [items[1].end]]
