"""Make the golden files for the tests of imported lenses with the `tuned-lens` package (0.2.0).

    pip install --no-deps --target DIR tuned-lens && rm -r DIR/tests     # the wheel brings a package named tests
    PYTHONPATH=.:DIR python scripts/make_tuned_lens_golden.py tests/golden/tuned_lens

For tiny random models: a lens as the package saves it, and its log-probabilities (nats) of a few tokens at every row
that it translates, computed by its own code on transformers' own hidden states.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tuned_lens import TunedLens

from tests.lm.families import VOCAB, tiny_model

FAMILIES = ("llama", "gpt2")
NUM_TOKENS = 5


@torch.no_grad()
def make(family: str, folder: Path) -> None:
    """Write `config.json`, `params.pt` and `readings.safetensors` of one family."""
    model = tiny_model(family)
    model.config.name_or_path = f"tiny/{family}"
    lens = TunedLens.from_model(model)
    generator = torch.Generator().manual_seed(1)
    for parameter in lens.layer_translators.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    lens.save(folder)
    input_ids = torch.randint(VOCAB, (1, NUM_TOKENS), generator=generator)
    states = model(input_ids, output_hidden_states=True).hidden_states[:-1]
    log_probs = torch.stack([lens(state, row)[0].log_softmax(-1) for row, state in enumerate(states)])
    save_file({"input_ids": input_ids, "log_probs": log_probs}, folder / "readings.safetensors")


if __name__ == "__main__":
    for name in FAMILIES:
        make(name, Path(sys.argv[1]) / name)
