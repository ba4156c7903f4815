"""A frozen causal language model with its verified parts and its identity."""

from typing import Any

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from logos_pl.errors import InputError
from logos_pl.functional.compiled import can_compile
from logos_pl.lm.anatomy import Anatomy, find_parts
from logos_pl.lm.config import context_length, read_config
from logos_pl.lm.loading import read_model, resolve_dtype
from logos_pl.lm.position_ids import position_ids, takes_position_ids
from logos_pl.lm.sources import clean_name, locate, model_commit, tokenizer_commit
from logos_pl.lm.tokenizer import read_tokenizer
from logos_pl.lm.verify import verify


class FrozenLM:
    """A frozen model with its tokenizer; a plain object, so that Lightning does not train, save or wrap it.

    Attributes:
        model: The transformers model, in evaluation mode, without gradients.
        tokenizer: Its tokenizer, or None.
        anatomy: Its parts, verified at construction.
        model_id: Hub id, ``demo``, or a local folder's name.
        model_commit: Hub commit, or ``sha256:…`` of a folder's files.
        tokenizer_commit: The same for the tokenizer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None,
        *,
        model_id: str,
        model_commit: str = "unknown",
        tokenizer_commit: str = "unknown",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.model_id = model_id
        self.model_commit = model_commit
        self.tokenizer_commit = tokenizer_commit
        self.anatomy: Anatomy = find_parts(self.model)
        verify(self.model, self.anatomy)
        self._takes_positions = takes_position_ids(self.anatomy.body)

    @classmethod
    def load(
        cls,
        model_id: str,
        *,
        revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: torch.device | str = "cpu",
    ) -> "FrozenLM":
        """Load a model from the Hub, a folder, or the package (``demo``).

        Args:
            model_id: Hub id, folder, or ``demo``.
            revision: Branch, tag or commit on the Hub.
            dtype: ``auto`` (the rule of ``dtype_for``), ``float32``, ``bfloat16`` or ``float16``.
            device: Device of the model.

        Raises:
            InputError: The model cannot be found or read, or is not supported; the message has the remedy.
        """
        source = locate(model_id, revision)
        config = read_config(source)
        resolved = resolve_dtype(dtype, torch.device(device), config)
        tokenizer = read_tokenizer(source)
        model = read_model(source, config, resolved)
        model.to(device)  # type: ignore[arg-type]
        return cls(
            model,
            tokenizer,
            model_id=source.model_id,
            model_commit=model_commit(source),
            tokenizer_commit=tokenizer_commit(source),
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
        """Last part of the model id: the name of folders and files."""
        return clean_name(self.model_id)

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
        """Move the model to a device."""
        self.model.to(device)
        return self

    def compile_blocks(self) -> None:
        """Compile the blocks at their first run; they share one graph, and hooks stay outside of it.

        Attention without a fused implementation, such as Gemma-2's with its soft-cap, gains most.

        Raises:
            InputError: The device is not CUDA, or torch cannot compile for it.
        """
        if not can_compile(self.device):
            raise InputError(
                f"{self.model_id} cannot be compiled on {self.device}: that takes CUDA, Triton, a C compiler and "
                "Python's headers; leave --model.compile out."
            )
        for block in self.anatomy.blocks:
            block.forward = torch.compile(block.forward)

    @torch.no_grad()
    def logits(
        self, input_ids: Int[Tensor, "batch seq"], attention_mask: Integer[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        """The model's own logits [batch seq vocab]; only for small inputs."""
        return self.model(**self._inputs(input_ids, attention_mask, None)).logits

    @torch.no_grad()
    def body(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Integer[Tensor, "batch seq"] | None = None,
        position_ids: Integer[Tensor, "batch seq"] | None = None,
    ) -> None:
        """Run the model without head and cache; results are gathered by hooks.

        Args:
            input_ids: Token ids.
            attention_mask: 1 for tokens, 0 for padding.
            position_ids: Positions; by default counted over the tokens of the mask.
        """
        self.anatomy.body(**self._inputs(input_ids, attention_mask, position_ids))

    def _inputs(self, input_ids: Tensor, attention_mask: Tensor | None, positions: Tensor | None) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": input_ids.to(self.device), "use_cache": False}
        # A mask of ones has no effect but would disable the fast attention path.
        if attention_mask is not None and not bool(attention_mask.all()):
            attention_mask = attention_mask.to(self.device)
            inputs["attention_mask"] = attention_mask
            positions = position_ids(attention_mask) if positions is None else positions
        if positions is not None and self._takes_positions:
            inputs["position_ids"] = positions.to(self.device)
        return inputs
