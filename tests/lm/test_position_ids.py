import torch
from torch import Tensor, nn

from logos_pl.lm.position_ids import position_ids, takes_position_ids


def test_position_ids_count_tokens_only() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2], [0, 1, 2, 3, 4]]


class Counts(nn.Module):
    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
        return input_ids


class CountsFromTheMask(nn.Module):
    def forward(self, input_ids: Tensor, **kwargs: Tensor) -> Tensor:
        return input_ids


def test_a_body_takes_position_ids_where_its_forward_names_them() -> None:
    assert takes_position_ids(Counts())
    assert not takes_position_ids(CountsFromTheMask())
