"""The head as a linear map of the normed residual: one direction per token, in fp64."""

from collections.abc import Sequence

from logos_pl.functional.contributions import Readout
from logos_pl.lenses.head import Head


def readout(head: Head, token_ids: Sequence[int]) -> Readout:
    """Directions and biases of some tokens' logits before any soft-cap, in fp64 on the CPU.

    Args:
        head: The model's head; its final norm is used, regardless of the decoding norm of inner rows.
        token_ids: Which tokens.
    """
    unembedding, final = head.unembedding, head.final
    ids = list(token_ids)
    weight = unembedding.weight[ids].cpu().double() * unembedding.scale
    head_bias = None if unembedding.bias is None else unembedding.bias[ids].cpu().double() * unembedding.scale
    projection_bias = None
    if head.projection is not None:
        matrix, bias = head.projection
        projection_bias = None if bias is None else weight @ bias.cpu().double()
        weight = weight @ matrix.cpu().double()
    norm_bias = None if final.beta is None else weight @ final.beta.cpu().double()
    return Readout(weight * final.gamma.cpu().double(), norm_bias, projection_bias, head_bias)
