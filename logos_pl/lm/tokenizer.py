"""Reads a model's tokenizer, with one clear message for each possible problem."""

from importlib.util import find_spec
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from logos_pl.errors import InputError
from logos_pl.lm.foreign import blaming
from logos_pl.lm.quiet import quiet, without_native_output
from logos_pl.lm.sources import ModelSource, fetch_small, has_vocabulary, locate


def load_tokenizer(model_id: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A model's tokenizer, without its weights.

    Raises:
        InputError: The model or its tokenizer cannot be found or read.
    """
    return read_tokenizer(locate(model_id, revision))


def read_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        InputError: It is missing, or cannot be read.
    """
    name, folder = source.model_id, fetch_small(source)
    if not has_vocabulary(folder):
        where = f"the folder {folder}" if source.commit is None else name
        raise InputError(
            f"{where} has no tokenizer (tokenizer.json or a vocabulary file); save the model's tokenizer into it."
        )
    _check_packages(name, folder)
    remedy = "fetch them again"
    with (
        quiet(),
        without_native_output(),
        blaming(f"the tokenizer files of {name} cannot be read", remedy, f"the tokenizer of {name}"),
    ):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        # Attributes that are used later, so that a wrong value is found here.
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
                f"the tokenizer of {name} is {found[0].name} alone, which takes the package {package} to read: "
                f"`pip install {package} protobuf`, or add its tokenizer.json."
            )
