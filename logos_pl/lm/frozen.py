"""A frozen causal language model with its verified parts and its identity."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from logos_pl.errors import InputError
from logos_pl.functional.compiled import can_compile
from logos_pl.lm.adapter_sources import named_revision
from logos_pl.lm.anatomy import Anatomy, find_body, find_parts
from logos_pl.lm.config import context_length, read_config
from logos_pl.lm.devices import Placement
from logos_pl.lm.hooks import Watch, gathering, stopping_after
from logos_pl.lm.loaded_as import LoadedAs
from logos_pl.lm.loading import resolve_dtype
from logos_pl.lm.pass_progress import ALONE, Turn
from logos_pl.lm.placed import loaded_as, place_model, plan_weights
from logos_pl.lm.position_ids import position_ids, takes_position_ids
from logos_pl.lm.probing import probe_ids, twin_ids
from logos_pl.lm.sharded import Sharing
from logos_pl.lm.sources import folder_name, locate, model_commit, tokenizer_commit
from logos_pl.lm.streamed import StreamedBody
from logos_pl.lm.streamed_check import check_streamed, with_rows
from logos_pl.lm.tokenizer import read_tokenizer
from logos_pl.lm.verify import Rows, verify

DEFAULT_GROUP_TOKENS = 2**14
"""Tokens of a streamed model's group if it was not chosen by memory."""


class Forward(NamedTuple):
    """One micro-batch for the body, and what is gathered from it.

    Attributes:
        input_ids: Token ids.
        attention_mask: 1 for tokens, 0 for padding; None without padding.
        watch: What is gathered from blocks and their parts.
        last_block: Number of the block after which the pass ends; None: it runs to the end.
    """

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Integer[Tensor, "batch seq"] | None = None
    watch: Watch = Watch()
    last_block: int | None = None


class FrozenLM:
    """A frozen model with its tokenizer; a plain object, so that Lightning does not train, save or wrap it.

    Attributes:
        model: The transformers model, in evaluation mode, without gradients.
        tokenizer: Its tokenizer, or None.
        anatomy: Its parts, verified at construction.
        streamed: Its blocks one by one, if they are read from disk for each group of micro-batches; else None.
        sharing: The processes that share its blocks, if it is sharded; else None.
        loaded_as: What was loaded, if it is not just plain weights; else None.
        model_id: Hub id, ``demo``, or a local folder's name; with the file's name for a GGUF model, the adapter's
            id for an adapted model.
        model_commit: Hub commit, or ``sha256:…`` of a folder's files.
        tokenizer_commit: The same for the tokenizer.
        named_revision: Revision that the user gave with the model or its adapter, as ``id@revision``; else None.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None,
        *,
        model_id: str,
        model_commit: str = "unknown",
        tokenizer_commit: str = "unknown",
        streamed: StreamedBody | None = None,
        sharing: Sharing | None = None,
        named_revision: str | None = None,
        loaded_as: LoadedAs | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.model_id = model_id
        self.model_commit = model_commit
        self.tokenizer_commit = tokenizer_commit
        self.named_revision = named_revision
        self.streamed = streamed
        self.sharing = sharing
        self.loaded_as = loaded_as
        self._takes_positions = takes_position_ids(find_body(self.model))
        self.anatomy: Anatomy
        if streamed is None:
            self.anatomy = find_parts(self.model)
            verify(self.model, self.anatomy)
        else:
            self._verify_streamed(streamed)

    @classmethod
    def load(
        cls,
        model_id: str,
        *,
        revision: str | None = None,
        gguf: str | None = None,
        adapter: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: torch.device | str = "cpu",
        placement: Placement = "resident",
        group_tokens: int = DEFAULT_GROUP_TOKENS,
        nodes: int = 1,
    ) -> "FrozenLM":
        """Load a model from the Hub, a folder, or the package (``demo``).

        Args:
            model_id: Hub id, which may name a revision as ``id@revision``, folder, or ``demo``.
            revision: Branch, tag or commit on the Hub.
            gguf: Name of a GGUF file in the folder or repository, which is read instead of its other weights.
            adapter: Folder or Hub id of an adapter of peft, which is merged into the weights.
            dtype: ``auto`` (the rule of ``dtype_for``), ``float32``, ``bfloat16`` or ``float16``.
            device: Where the model runs.
            placement: Whether its blocks are in memory, read from disk for each group of micro-batches, or sharded over
                the processes of a machine, each of which must load it.
            group_tokens: Tokens of such a group.
            nodes: Machines that a sharded model's processes run on.

        Raises:
            InputError: The model cannot be found or read, or is not supported; the message has the remedy.
        """
        source = locate(model_id, revision, gguf)
        config = read_config(source)
        weights = plan_weights(source, config, adapter)
        resolved = resolve_dtype(dtype, torch.device(device), config)
        tokenizer = read_tokenizer(source)
        device = torch.device(device)
        placed = place_model(source, config, resolved, device, placement, weights, group_tokens, nodes)
        record = loaded_as(source, weights)
        merged = None if record is None else record.adapter
        return cls(
            placed.model,
            tokenizer,
            model_id=source.model_id if merged is None else merged.adapter_id,
            model_commit=model_commit(source) if merged is None else merged.model_commit,
            tokenizer_commit=tokenizer_commit(source),
            streamed=placed.streamed,
            sharing=placed.sharing,
            loaded_as=record,
            named_revision=named_revision(model_id, adapter),
        )

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        model_id: str = "local/unsaved",
    ) -> "FrozenLM":
        """Wrap a model that is already in memory; its commits are ``unknown``.

        Raises:
            InputError: Its architecture is not supported.
        """
        return cls(model, tokenizer, model_id=model_id)

    @property
    def clean_model_name(self) -> str:
        """Name of folders and files: the last part of the model id, with the revision that the user gave with it."""
        return folder_name(self.model_id, self.named_revision)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.anatomy.lm_head.weight.dtype

    @property
    def stream_dtype(self) -> torch.dtype:
        """Number format of the residual stream, which holds every row without loss."""
        return self.anatomy.stream_dtype

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.anatomy.lm_head.weight.device

    @property
    def num_blocks(self) -> int:
        """Number n of transformer blocks."""
        return self.anatomy.num_blocks

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.anatomy.d_model

    @property
    def vocab_size(self) -> int:
        """Number of logits."""
        return self.anatomy.vocab_size

    @property
    def tied_embeddings(self) -> bool:
        """Whether unembedding and token embedding are tied, so that row 0 decodes to the input token."""
        embedding = getattr(self.model.get_input_embeddings(), "weight", None)
        return embedding is not None and embedding.data_ptr() == self.anatomy.lm_head.weight.data_ptr()

    @property
    def context_length(self) -> int | None:
        """Context length in tokens; None if the configuration sets no limit."""
        return context_length(self.model.config)

    def to(self, device: torch.device | str) -> "FrozenLM":
        """The same model, moved.

        Raises:
            InputError: It is streamed or sharded: it runs only on the device it was loaded for.
        """
        if (how := self._how_placed()) is not None:
            raise InputError(f"{self.model_id} is {how} on {self.device}: load it for {device} instead.")
        self.model.to(device)
        return self

    def compile_blocks(self) -> None:
        """Compile the blocks on their first run; they share one graph, and hooks stay outside it.

        Attention without a fused implementation, such as Gemma-2's with its soft-cap, gains most.

        Raises:
            InputError: The device is not CUDA, tools that torch compiles with are missing, or the model is streamed or
                sharded.
        """
        if (how := self._how_placed()) is not None:
            raise InputError(f"{self.model_id} is {how}, and its blocks cannot be compiled; leave --model.compile out.")
        if not can_compile(self.device):
            raise InputError(
                f"{self.model_id} cannot be compiled on {self.device}: that needs CUDA, Triton, a C compiler and "
                "Python's headers; leave --model.compile out."
            )
        for block in self.anatomy.blocks:
            block.forward = torch.compile(block.forward)

    @torch.no_grad()
    def logits(
        self, input_ids: Int[Tensor, "batch seq"], attention_mask: Integer[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        """The model's own logits; for small inputs, as they are as large as the vocabulary."""
        return self.model(**self._inputs(input_ids, attention_mask)).logits

    @torch.no_grad()
    def run(self, forwards: Sequence[Forward], turn: Turn = ALONE) -> None:
        """Run the model without head and cache on some micro-batches, for what is gathered from each.

        A streamed model's weights are fetched once for all of them. Hooks other than those of ``Forward.watch`` would
        see blocks of a streamed model that do not compute.

        Args:
            forwards: The micro-batches.
            turn: Their position among all that will be read, for progress.
        """
        inputs = [self._inputs(forward.input_ids, forward.attention_mask) for forward in forwards]
        if self.streamed is not None:
            watches = [forward.watch for forward in forwards]
            ends = [forward.last_block or self.num_blocks for forward in forwards]
            self.streamed.run(self.anatomy.body, inputs, watches, ends, turn)
            return
        for given, forward in zip(inputs, forwards, strict=True):
            last = forward.last_block
            end = nullcontext() if last is None else stopping_after(self.anatomy.blocks[last - 1])
            with gathering(*forward.watch), end:
                self.anatomy.body(**given)

    def _how_placed(self) -> str | None:
        return "streamed" if self.streamed is not None else "sharded" if self.sharing is not None else None

    def _verify_streamed(self, streamed: StreamedBody) -> None:
        """Find and verify the parts, and compare running block by block with the model's own code."""
        self.anatomy, opening = with_rows(streamed.blocks, lambda: find_parts(self.model))
        padded, twins = probe_ids(self.model, offset=2), twin_ids(self.model)
        mask = torch.ones_like(padded)
        mask[0, :2] = 0
        inputs = [(probe_ids(self.model), None), (padded, mask), (twins, None), (twins.flip(0), None)]

        def flipped(rows: Rows) -> Rows:
            group = [self._inputs(ids, mask) for ids, mask in inputs]
            with torch.no_grad():
                _, own = with_rows(streamed.blocks, lambda: self.anatomy.body(**group[1]))
            return list(check_streamed(self.anatomy, streamed, group, [opening, own, rows])[-1])

        verify(self.model, self.anatomy, streamed.passing_through, flipped)

    def _inputs(self, input_ids: Tensor, attention_mask: Tensor | None) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": input_ids.to(self.device), "use_cache": False}
        # A mask of ones has no effect but would disable the fast attention path.
        if attention_mask is not None and not bool(attention_mask.all()):
            inputs["attention_mask"] = attention_mask.to(self.device)
            if self._takes_positions:
                inputs["position_ids"] = position_ids(inputs["attention_mask"])
        return inputs
