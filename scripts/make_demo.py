"""Make the bundled demo: its text from tables of facts, its tokenizer and its model, and the card that describes them.

    python scripts/make_demo.py [--out logos_pl/demo]

Takes about 7 minutes on two free cores (the card records the time of the shipped run), reads only scripts/demo_facts
and needs no network. The same machine and versions give the same bytes: text, tokenizer and weights come from one
seed, one number of threads and deterministic kernels; only the seconds in the card differ.
"""

import argparse
import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from demo_build.card import Measured, sha256_of, write_card
from demo_build.documents import write_documents
from demo_build.facts import facts_by_relation
from demo_build.recall import first_row_histogram, recall_by_phrasing
from demo_build.tokens import encode_documents, save_tokenizer, train_tokenizer
from demo_build.training import Recipe, build_model, held_out_loss, train
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

DEMO = Path(__file__).resolve().parents[1] / "logos_pl" / "demo"
NUM_THREADS = 2
NUM_SHARDS = 3
NUM_WORDS = 1_300_000
HELD_OUT_EVERY = 50  # one document in so many is kept from the training and measures the loss


def say(message: str) -> None:
    """Print progress to standard error."""
    print(message, file=sys.stderr, flush=True)


def write_shards(documents: list[str], token_counts: list[int], folder: Path) -> None:
    """Write the text as parquet shards with the columns text, id, language and token_count."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.parquet"):
        stale.unlink()
    size = -(-len(documents) // NUM_SHARDS)
    for shard in range(NUM_SHARDS):
        part = slice(shard * size, (shard + 1) * size)
        texts = documents[part]
        columns = {
            "text": texts,
            "id": [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts],
            "language": ["en"] * len(texts),
            "token_count": token_counts[part],
        }
        path = folder / f"train-{shard:05d}-of-{NUM_SHARDS:05d}.parquet"
        pq.write_table(pa.table(columns), path, compression="zstd", compression_level=19, use_dictionary=["language"])


def make(out: Path, recipe: Recipe, num_words: int) -> None:
    """Make the whole demo in `out`."""
    started = time.monotonic()
    torch.set_num_threads(NUM_THREADS)
    torch.use_deterministic_algorithms(True)
    say("writing the text")
    documents = list(write_documents(recipe.seed, num_words))
    capitals = facts_by_relation()["capital"]
    say(f"{len(documents)} documents; training the tokenizer")
    names = [name for fact in capitals for name in (fact.subject, fact.answer)]
    tokenizer = train_tokenizer(documents, names, recipe.vocab_size)
    encoded = encode_documents(tokenizer, documents)
    write_shards(documents, [len(ids) for ids in encoded], out / "text" / "data")
    held_out = encoded[::HELD_OUT_EVERY]
    training = [ids for index, ids in enumerate(encoded) if index % HELD_OUT_EVERY]
    say(f"{sum(map(len, encoded))} tokens; training the model")
    model = build_model(recipe)
    train_loss = train(model, training, recipe)
    model.bfloat16().save_pretrained(out / "model")
    save_tokenizer(tokenizer, out / "model")
    for path in (out / "model").iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner may read
    say("measuring")
    write_card(out, recipe, measure(out, held_out, train_loss, documents, encoded, started))
    say(f"done in {time.monotonic() - started:.0f} s: {out}")


def measure(
    out: Path, held_out: list[torch.Tensor], train_loss: float, documents: list[str], encoded: list[torch.Tensor],
    started: float,
) -> Measured:  # fmt: skip
    """Measure everything the card reports on the written files (bf16 weights, float32 arithmetic)."""
    model = LlamaForCausalLM.from_pretrained(out / "model", dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out / "model")
    templates = ("The capital of {c} is {a}.", "The capital of {c} is called simply {a}.")
    return Measured(
        train_loss_nats=train_loss,
        held_out_loss_nats=held_out_loss(model, held_out),
        recall=recall_by_phrasing(model, tokenizer),
        first_rows={template: first_row_histogram(model, tokenizer, template, "capital") for template in templates},
        num_parameters=sum(p.numel() for p in model.parameters()),
        num_documents=len(documents),
        num_tokens=sum(map(len, encoded)),
        sha256=sha256_of(out),
        seconds=time.monotonic() - started,
        cpu_seconds=time.process_time(),
    )


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and make the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=DEMO, help="folder for text/, model/ and README.md (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="training steps (default: %(default)s)")
    parser.add_argument("--words", type=int, default=NUM_WORDS, help="words of text (default: %(default)s)")
    options = parser.parse_args(arguments)
    make(options.out, replace(Recipe(), steps=options.steps), options.words)


if __name__ == "__main__":
    main()
