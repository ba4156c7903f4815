"""Reads a model's tokenizer, with one clear message for each possible problem."""

import copy
import functools
from importlib.util import find_spec
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from logos_pl.errors import InputError
from logos_pl.lm.foreign import blaming
from logos_pl.lm.quiet import quiet, without_native_output
from logos_pl.lm.sources import ModelSource, fetch_small, has_vocabulary, locate


def load_tokenizer(model_id: str, revision: str | None = None, gguf: str | None = None) -> PreTrainedTokenizerBase:
    """A model's tokenizer, without loading its weights.

    Raises:
        InputError: The model or its tokenizer cannot be found or read.
    """
    return read_tokenizer(locate(model_id, revision, gguf))


def read_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        InputError: It is missing, or cannot be read.
    """
    name, folder = source.model_id, fetch_small(source)
    if source.gguf is not None and not has_vocabulary(folder):
        return copy.deepcopy(_of_gguf(source, source.gguf.stat().st_mtime_ns))
    if not has_vocabulary(folder):
        where = f"the folder {folder}" if source.commit is None else name
        raise InputError(
            f"{where} has no tokenizer (tokenizer.json or a vocabulary file); save the model's tokenizer into it."
        )
    _check_packages(name, folder)
    return _checked(source)


@functools.lru_cache(maxsize=2)
def _of_gguf(source: ModelSource, modified_ns: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file, cached: it takes seconds, and a command needs it twice."""
    return _checked(source, gguf_file=source.config_file.name)


def _checked(source: ModelSource, **options: str) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers reads it; attributes used later are checked."""
    name, folder = source.model_id, source.folder
    with (
        quiet(),
        without_native_output(),
        blaming(f"the tokenizer files of {name} cannot be read", "fetch them again", f"the tokenizer of {name}"),
    ):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
        # Attributes that are used later, so that an invalid value is detected here.
        tokenizer("")
        tokenizer.all_special_ids  # noqa: B018
        len(tokenizer)
    return tokenizer


def _check_packages(name: str, folder: Path) -> None:
    """Refuse a vocabulary that needs another package to convert, for which transformers raises unrelated errors."""
    if (folder / "tokenizer.json").exists():
        return
    for pattern, package in (("*.model", "sentencepiece"), ("*.tiktoken", "tiktoken")):
        found = sorted(folder.glob(pattern))
        if found and find_spec(package) is None:
            raise InputError(
                f"the tokenizer of {name} is only {found[0].name}, which needs the package {package}: "
                f"`pip install {package} protobuf`, or add its tokenizer.json."
            )
