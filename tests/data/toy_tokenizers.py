"""Tokenizers of every common kind, built on the spot from a few sentences."""

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "The capital of Germany is called simply Berlin",
    "The capital of France is called Paris",
    "What is the capital of Italy? It is Rome.",
    'She said "Berlin" and left the old city',
    "So it is Rome ?",
] * 20

SPECIAL = ["<unk>", "<s>", "</s>"]

KINDS = ("byte_level", "metaspace_always", "metaspace_first", "metaspace_never", "llama", "word_level", "word_piece")


def toy_tokenizer(kind: str, *, begin: bool = True, end: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of one kind that puts `<s>` before a text if `begin` and `</s>` after it if `end`."""
    tokenizer, trainer = _BUILDERS["metaspace" if kind.startswith("metaspace") else kind](kind)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if kind == "llama":
        tokenizer = _with_bytes(tokenizer)
    template = f"{'<s> ' * begin}$A{' </s>' * end}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", model_max_length=16
    )


def _byte_level(_: str) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )


def _metaspace(kind: str) -> tuple[Tokenizer, trainers.Trainer]:
    scheme = kind.removeprefix("metaspace_")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return tokenizer, trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)


def _llama(_: str) -> tuple[Tokenizer, trainers.Trainer]:
    """As converted from SentencePiece: normalised, not pre-tokenised; `_with_bytes` adds bytes for the rest."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer, trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)


def _with_bytes(trained: Tokenizer) -> Tokenizer:
    model = json.loads(trained.to_str())["model"]
    vocabulary = model["vocab"] | {f"<0x{byte:02X}>": len(model["vocab"]) + byte for byte in range(256)}
    merges = [(left, right) for left, right in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def _word_level(_: str) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer, trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False)


def _word_piece(_: str) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL, show_progress=False)


_BUILDERS = {
    "byte_level": _byte_level,
    "metaspace": _metaspace,
    "llama": _llama,
    "word_level": _word_level,
    "word_piece": _word_piece,
}
