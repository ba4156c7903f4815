"""Where the likeliest token settles: the first row from which it stays the likeliest up to the last."""

from jaxtyping import Int
from torch import Tensor


def settling_rows(top_ids: Int[Tensor, "rows pos"], token_ids: Int[Tensor, "pos"]) -> Int[Tensor, "pos"]:
    """First row from which each token is the likeliest at every row to the last; the number of rows if never.

    Args:
        top_ids: The likeliest token of every row 0 … n.
        token_ids: The token to check at each position, such as the model's own top-1 token.
    """
    stays = (top_ids == token_ids).long().flip(0).cumprod(0)
    return top_ids.shape[0] - stays.sum(0)
