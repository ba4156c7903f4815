"""The demo's tokenizer: byte-level BPE learned from the demo's text, with `<s>` put in front of every text."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

BOS = "<s>"
CONTEXT_LENGTH = 512


def train_tokenizer(documents: Iterable[str], names: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocab_size` tokens; `names` are repeated until each of their words is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    emphasised = (f" {name}" for name in names for _ in range(200))
    tokenizer.train_from_iterator(chain(documents, emphasised), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    # No end token: documents are separated only by the <s> at their beginning.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, pad_token=BOS, model_max_length=CONTEXT_LENGTH
    )


def encode_documents(tokenizer: PreTrainedTokenizerFast, documents: list[str]) -> list[Int[Tensor, " seq"]]:
    """Token ids of each document, its `<s>` in front."""
    encodings = tokenizer.backend_tokenizer.encode_batch(documents)
    return [torch.tensor(encoding.ids, dtype=torch.int32) for encoding in encodings]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer's files into `folder`."""
    tokenizer.save_pretrained(str(folder))
