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
"""Maximum number of tokens of a streamed group."""

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Frozen model and head.

    Args:
        model_id: Hub id of a causal language model, its local folder, or `demo` for the bundled model. The name
            may include a revision, as `id@revision`, which then becomes part of the names of its output folders.
        revision: branch, tag or commit of the model on the Hub.
        gguf: name of a GGUF file in the model's folder or repository, read instead of its other weights; not needed for
            a folder whose only weights are one GGUF file.
        adapter: folder or Hub id (`org/name@revision`) of a PEFT adapter, which is merged into the weights.
        dtype: dtype of the frozen model; `auto`: bfloat16 on CUDA, float32 on CPU for models below 30B parameters.
        placement: `resident`: keep the model in memory; `streamed`: read its blocks from its safetensors files one by
            one for each group of micro-batches, with two in memory at a time; `sharded`: split each block over the
            devices of a machine (`--trainer.devices`) and gather it while it computes; `auto`: resident if the model
            fits on the device; otherwise streamed on one device, or sharded over several.
        group_tokens: tokens of the micro-batches that each block of a streamed model is run on before the next block is
            read: larger groups read less; `auto`: chosen by available memory.
        compile: compile the blocks of the frozen model with torch.compile on CUDA: the first step is slower, later
            steps are faster.
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
        """Id used in results: for an adapted model, that of its adapter; for a GGUF model, with the name of the file.

        Raises:
            InputError: A name cannot be used in results.
        """
        return recorded_id(self.model_id, self.gguf, self.adapter)

    @property
    def folder_name(self) -> str:
        """Name of the model's folders and files; a revision named with the model, or with its adapter, is part of it.

        Raises:
            InputError: A name cannot be used in results.
        """
        return recorded_folder(self.model_id, self.gguf, self.adapter)

    @property
    def block_bytes(self) -> int:
        """Memory budget for one block of logits, in bytes."""
        return self.loss_block_mib * 2**20
