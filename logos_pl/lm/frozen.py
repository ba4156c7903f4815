"""A causal language model that is loaded, frozen, dissected and proved, with what identifies it."""

from typing import Any

import torch
from jaxtyping import Float, Int, Integer
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import __version__ as transformers_version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from logos_pl.errors import InputError
from logos_pl.lm import sources
from logos_pl.lm.anatomy import Anatomy, dissect
from logos_pl.lm.devices import ModelShape, dtype_for, shape_of
from logos_pl.lm.quiet import quiet
from logos_pl.lm.residuals import position_ids, takes_position_ids
from logos_pl.lm.sources import Source, explain, first_sentence, locate
from logos_pl.lm.verify import verify

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


class FrozenLM:
    """A frozen model with its tokenizer: a plain object, so that nothing trains, saves or wraps it.

    Attributes:
        model: The transformers model, in evaluation mode, without gradients.
        tokenizer: Its tokenizer, or None where none was given.
        anatomy: Its parts, proved at construction.
        model_id: Hub id, ``demo``, or a local folder's name.
        model_commit: Hub commit, or ``sha256:…`` of a folder's files.
        tokenizer_commit: Likewise for the tokenizer.
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
        self.anatomy: Anatomy = dissect(self.model)
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
        """Loads a model from the Hub, a folder, or the package (``demo``).

        Args:
            model_id: Hub id, folder, or ``demo``.
            revision: Branch, tag or commit on the Hub.
            dtype: ``auto`` (the rule of ``dtype_for``), ``float32``, ``bfloat16`` or ``float16``.
            device: Where the model runs.

        Raises:
            InputError: The model cannot be found, read or supported; the message says which, and the remedy.
        """
        source = locate(model_id, revision)
        config = read_config(source)
        resolved = _dtype(dtype, torch.device(device), config)
        tokenizer = read_tokenizer(source)
        model = _read_model(source, config, resolved).to(device)
        return cls(
            model,
            tokenizer,
            model_id=source.model_id,
            model_commit=sources.model_commit(source),
            tokenizer_commit=sources.tokenizer_commit(source),
        )

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        model_id: str = "local/unsaved",
    ) -> "FrozenLM":
        """A model that is already in memory; its commits are ``unknown``.

        Raises:
            InputError: Its architecture is not supported.
        """
        return cls(model, tokenizer, model_id=model_id)

    @property
    def clean_model_name(self) -> str:
        """Last part of the model id: the name of folders and files."""
        return self.model_id.rstrip("/").rsplit("/", 1)[-1]

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.anatomy.lm_head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the model is."""
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
    def context_length(self) -> int | None:
        """Longest sequence in tokens the model has positions for; None where its configuration sets no bound."""
        config = self.model.config.get_text_config(decoder=True)
        values = (getattr(config, name, None) for name in CONTEXT_NAMES)
        return next((value for value in values if isinstance(value, int)), None)

    def to(self, device: torch.device | str) -> "FrozenLM":
        """The same model, moved."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def logits(
        self, input_ids: Int[Tensor, "batch seq"], attention_mask: Integer[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        """The model's own logits; for small inputs, as they are as large as the vocabulary."""
        return self.model(**self._inputs(input_ids, attention_mask, None)).logits

    @torch.no_grad()
    def body(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Integer[Tensor, "batch seq"] | None = None,
        position_ids: Integer[Tensor, "batch seq"] | None = None,
    ) -> None:
        """Runs the model without its head and cache, for the hooks' sake.

        Args:
            input_ids: Token ids.
            attention_mask: 1 for tokens, 0 for padding.
            position_ids: Positions; by default counted over the tokens of the mask.
        """
        self.anatomy.body(**self._inputs(input_ids, attention_mask, position_ids))

    def _inputs(
        self, input_ids: Tensor, attention_mask: Tensor | None, positions: Tensor | None
    ) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": input_ids.to(self.device), "use_cache": False}
        # A mask of ones says nothing, but would cost the fast attention path.
        if attention_mask is not None and not bool(attention_mask.all()):
            attention_mask = attention_mask.to(self.device)
            inputs["attention_mask"] = attention_mask
            positions = position_ids(attention_mask) if positions is None else positions
        if positions is not None and self._takes_positions:
            inputs["position_ids"] = positions.to(self.device)
        return inputs


def load_tokenizer(model_id: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A model's tokenizer, without its weights.

    Raises:
        InputError: The model or its tokenizer cannot be found or read.
    """
    return read_tokenizer(locate(model_id, revision))


def count_parameters(model_id: str, revision: str | None = None) -> int:
    """Parameters of a model, from its configuration alone.

    Raises:
        InputError: The model cannot be found, or is no causal language model.
    """
    return model_shape(model_id, revision).num_parameters


def model_shape(model_id: str, revision: str | None = None) -> ModelShape:
    """Sizes of a model, from its configuration alone: what decides on the device before weights are fetched.

    Raises:
        InputError: The model cannot be found, or is no causal language model.
    """
    return shape_of(read_config(locate(model_id, revision)))


def read_config(source: Source) -> PreTrainedConfig:
    """The configuration of a causal language model that transformers knows without foreign code.

    Raises:
        InputError: Unknown architecture, one that needs its own code, or one that is no causal language model.
    """
    raw = sources.read_config_dict(source)
    family = raw.get("model_type")
    if family not in CONFIG_MAPPING:
        if "auto_map" in raw:
            raise InputError(
                f"{source.model_id} needs code from its repository, which is never run; take a model whose architecture "
                "transformers has built in."
            )
        raise InputError(
            f"{source.model_id} has the architecture {family!r}, which transformers {transformers_version} does not "
            "know; take another model."
        )
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source.place, revision=source.commit, trust_remote_code=False)
    except (ValueError, TypeError, OSError) as error:
        raise explain(error, source.model_id, source.commit) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            f"{source.model_id} is of the architecture {family!r}, which is no causal language model; take a "
            "decoder-only language model."
        )
    return config


def read_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        InputError: It is missing, or cannot be read.
    """
    folder = source.folder
    if folder is not None and not sources.has_vocabulary(folder):
        raise InputError(
            f"the folder {folder} has no tokenizer (tokenizer.json or a vocabulary file); save the model's tokenizer "
            "into it."
        )
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(source.place, revision=source.commit, trust_remote_code=False)
    except ImportError as error:
        raise InputError(f"the tokenizer of {source.model_id} needs a package: {first_sentence(error)}") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise explain(error, source.model_id, source.commit) from error


def _dtype(dtype: str | torch.dtype, device: torch.device, config: PreTrainedConfig) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
        return dtype_for(device, str(config.model_type), shape_of(config).num_parameters, bf16=bf16)
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}, but must be `auto`, {', '.join(f'`{name}`' for name in DTYPES)}.")
    return DTYPES[dtype]


def _read_model(source: Source, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    name = source.model_id
    try:
        with quiet():
            model, info = AutoModelForCausalLM.from_pretrained(
                source.place,
                revision=source.commit,
                config=config,
                dtype=dtype,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise InputError(f"a weights file of {name} is damaged ({first_sentence(error)[:-1]}); fetch it again.") from error
    except ImportError as error:
        raise InputError(f"{name} needs a package that is not installed: {first_sentence(error)}") from error
    except (OSError, ValueError) as error:
        raise explain(error, name, source.commit) from error
    missing = sorted(info["missing_keys"])
    if missing:
        # Transformers would fill them with random numbers and go on.
        raise InputError(
            f"the weights of {name} lack {len(missing)} tensors of its architecture, {missing[0]} first; fetch the "
            "complete model."
        )
    return model


