"""Options of the frozen model and its head."""

from dataclasses import dataclass
from typing import Literal

from logos_pl.bounds import check_number
from logos_pl.lenses.head import DecodingNorm
from logos_pl.lm.dtypes import Fp32Unembed

MAX_BLOCK_MIB = 2**20
"""Largest memory budget of a block of logits, in MiB: a TiB."""

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The frozen model, and how it is decoded.

    Args:
        model_id: Hub id of a causal language model, a folder with its files, or `demo` for the bundled one.
        revision: branch, tag or commit of the model on the Hub.
        dtype: number format the frozen model runs in; `auto`: bfloat16 on CUDA, float32 on the CPU below 30B.
        compile: compile the blocks of the frozen model, on CUDA: the first step takes longer, and the others less.
        fp32_unembed: hold the unembedding in float32 for the lenses (`true`), or in the model's own number format
            (`false`), which takes no second copy and rounds what goes into its products; `auto`: in float32, but for
            vocabularies of 100,000 tokens and more on CUDA. Logits and losses are float32 in any case.
        decoding_norm: norm in front of the unembedding: the model's `final` one at every row, or the one that
            reads the row `next`.
        loss_block_mib: memory budget of one block of logits, in MiB.

    Raises:
        InputError: A number is out of its bounds.
    """

    model_id: str
    revision: str | None = None
    dtype: DtypeName = "auto"
    compile: bool = False
    fp32_unembed: Fp32Unembed = "auto"
    decoding_norm: DecodingNorm = "final"
    loss_block_mib: int = 256

    def __post_init__(self) -> None:
        check_number("--model.loss_block_mib", self.loss_block_mib, at_least=1, at_most=MAX_BLOCK_MIB)

    @property
    def block_bytes(self) -> int:
        """Memory budget of one block of logits, in bytes."""
        return self.loss_block_mib * 2**20
