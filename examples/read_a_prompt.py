"""Read a prompt at every depth: what the norm lens and the tuned lens would say next, and where the answer ranks.

logos-pl fit --config configs/demo.yaml
python examples/read_a_prompt.py [folder of the lens]
"""

import sys

from torch import Tensor

from logos_pl import lens_logits, load_model, load_tuned_lens, norm_lens

PROMPT, ANSWER = "The capital of Germany is", " Berlin"


def rank(logits: Tensor, token: int) -> int:
    """1 + the number of tokens that are likelier."""
    return 1 + int((logits > logits[token]).sum())


def main(folder: str = "checkpoints/tuned_lenses/demo") -> None:
    """Print one line per row."""
    lm = load_model("demo")
    tuned, provenance = load_tuned_lens(folder, lm)
    lenses = {"norm": norm_lens(lm, provenance.decoding_norm), "tuned": tuned}

    tokenizer = lm.tokenizer
    assert tokenizer is not None  # load_model brings one
    answer = tokenizer(ANSWER, add_special_tokens=False)["input_ids"][0]
    print(f"{PROMPT!r} -> {tokenizer.decode([answer])!r}")
    print(f"{'row':>3}" + "".join(f"  {name + ' top-1':<16} {'rank':>5}" for name in lenses))
    for row in range(lm.num_blocks + 1):
        line = f"{row:>3}"
        for lens in lenses.values():
            logits = lens_logits(lm, lens, PROMPT, row)[-1]
            line += f"  {tokenizer.decode([int(logits.argmax())])!r:<16} {rank(logits, answer):>5}"
        print(line)


if __name__ == "__main__":
    main(*sys.argv[1:2])
