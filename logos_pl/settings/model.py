"""Options of the frozen model and its head."""

from dataclasses import dataclass
from typing import Literal

from logos_pl.bounds import check_number
from logos_pl.lenses.head import DecodingNorm
from logos_pl.lm.adapter_sources import recorded_folder, recorded_id
from logos_pl.lm.devices import Placement
from logos_pl.lm.dtypes import Fp32Unembed

MAX_BLOCK_MIB = 2**20
"""Largest memory budget of a block of logits, in MiB (1 TiB)."""

MAX_GROUP_TOKENS = 2**30
"""Most tokens of a streamed group."""

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Frozen model and head.

    Args:
        model_id: Hub id of a causal language model, its local folder, or `demo` for the bundled model. A revision may
            be part of the name, as `id@revision`; lens, runs and sweeps are then filed under it, too.
        revision: branch, tag or commit of the model on the Hub.
        gguf: name of a GGUF file in the model's folder or repository, which is read in place of its other weights; a
            folder that holds one and no other weights needs none.
        adapter: folder or Hub id (`org/name@revision`) of an adapter of peft, which is merged into the weights.
        dtype: dtype of the frozen model; `auto`: bfloat16 on CUDA, float32 on CPU for models below 30B parameters.
        placement: `resident`: the model is in memory; `streamed`: its blocks are read from its safetensors, one after
            the other, for each group of micro-batches, and two of them are in memory; `sharded`: they are shared out
            among the devices of a machine (`--trainer.devices`), and a block is whole while it computes; `auto`:
            resident where the model fits on the device; where it does not, streamed on one device, sharded over
            several.
        group_tokens: tokens of the micro-batches that each block of a streamed model is run on at a time: the more, the
            less is read; `auto`: chosen by memory.
        compile: compile the blocks of the frozen model with torch.compile on CUDA: slower first step, faster others.
        fp32_unembed: dtype of the unembedding in the lenses: float32 (`true`) or that of the model (`false`), which
            needs no second copy but rounds the inputs of the product. `auto`: float32, except for vocabularies of
            100,000 tokens or more on CUDA. Logits and losses are always float32.
        decoding_norm: norm applied before the unembedding: the `final` norm at every row, or at each row the norm of
            the `next` block.
        loss_block_mib: memory budget for one block of logits, in MiB.

    Raises:
        InputError: A number is out of its bounds.
    """

    model_id: str
    revision: str | None = None
    gguf: str | None = None
    adapter: str | None = None
    dtype: DtypeName = "auto"
    placement: Placement | Literal["auto"] = "auto"
    group_tokens: int | Literal["auto"] = "auto"
    compile: bool = False
    fp32_unembed: Fp32Unembed = "auto"
    decoding_norm: DecodingNorm = "final"
    loss_block_mib: int = 256

    def __post_init__(self) -> None:
        if self.group_tokens != "auto":
            check_number("--model.group_tokens", self.group_tokens, at_least=1, at_most=MAX_GROUP_TOKENS)
        check_number("--model.loss_block_mib", self.loss_block_mib, at_least=1, at_most=MAX_BLOCK_MIB)

    @property
    def recorded_id(self) -> str:
        """Id used in results: of an adapted model its adapter's, of a GGUF model with the file's name.

        Raises:
            InputError: A name cannot be written down.
        """
        return recorded_id(self.model_id, self.gguf, self.adapter)

    @property
    def folder_name(self) -> str:
        """Name of the model's folders and files; a revision named with the model, or with its adapter, is part of it.

        Raises:
            InputError: A name cannot be written down.
        """
        return recorded_folder(self.model_id, self.gguf, self.adapter)

    @property
    def block_bytes(self) -> int:
        """Memory budget for one block of logits, in bytes."""
        return self.loss_block_mib * 2**20
