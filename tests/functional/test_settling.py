import itertools

import torch

from logos_pl.functional.settling import settling_rows


def test_a_token_settles_where_it_is_the_likeliest_from_there_to_the_last_row() -> None:
    tops = list(itertools.product([3, 5], repeat=4))
    by_hand = []
    for column in tops:
        rows = [row for row in range(5) if all(top == 5 for top in column[row:])]
        by_hand.append(rows[0])  # row 4, past the last, holds in any case
    found = settling_rows(torch.tensor(tops).T, torch.full((len(tops),), 5))
    assert found.tolist() == by_hand
    assert set(by_hand) == {0, 1, 2, 3, 4}


def test_each_position_has_a_token_of_its_own() -> None:
    top_ids = torch.tensor([[1, 2, 9], [1, 7, 9], [1, 7, 8]])
    assert settling_rows(top_ids, torch.tensor([1, 7, 9])).tolist() == [0, 1, 3]
