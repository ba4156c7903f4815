from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.shards import Shard
from tests.data.texts import make_texts, write_parquet

BOS = 0


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and a BOS in front of every document."""
    vocab = {"<s>": BOS, **{symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()), start=1)}}
    raw = Tokenizer(BPE(vocab=vocab, merges=[]))
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = ByteLevelDecoder()
    raw.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>")


@pytest.fixture(scope="session")
def byte_model(tokenizer: PreTrainedTokenizerFast) -> ModelTokenizer:
    """A model of that tokenizer whose context nothing bounds."""
    return ModelTokenizer("demo", tokenizer, len(tokenizer), None)


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., tuple[Shard, ...]]:
    """Writes parquet shards of `make_texts` into a folder and lists them."""

    def write(num_shards: int, rows: int, longest: int = 60) -> tuple[Shard, ...]:
        folder = tmp_path / "corpus"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{shard:03}.parquet" for shard in range(num_shards)]
        for shard, path in enumerate(paths):
            write_parquet(path, make_texts(shard, rows, longest))
        return tuple(Shard(path.name, str(path)) for path in paths)

    return write
