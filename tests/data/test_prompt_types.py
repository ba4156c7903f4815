from logos_pl.data.prompt_types import AnswerTokens, Prompt


def test_the_first_token_of_an_answer_decides_and_an_answer_that_is_not_resolved_has_none() -> None:
    assert AnswerTokens("resolved", "no_space", (0, 7), ("B", "erlin")).first_id == 0  # which is an id like any other
    assert AnswerTokens("unresolved").first_id is None
    assert AnswerTokens("none").first_id is None


def test_an_answer_has_a_form_ids_and_pieces_only_where_it_is_resolved() -> None:
    for status in ("unresolved", "none"):
        assert AnswerTokens(status) == (status, None, (), ())


def test_a_bare_prompt_asks_for_nothing_and_belongs_to_no_relation() -> None:
    assert Prompt("p1", "orig", "Once") == ("p1", "orig", "Once", None, None, "", "", (), ())
