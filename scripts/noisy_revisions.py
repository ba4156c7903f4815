"""Revisions of a model in a Hub cache, as steps of a training: its weights with less and less noise.

    python scripts/noisy_revisions.py ./models/tiny-llama --cache hub --repo org/steps
    HF_HUB_CACHE=hub HF_HUB_OFFLINE=1 logos-pl compare norm --models org/steps@step0 org/steps@step1000 …

It stands in for a model whose checkpoints are published, where there is no network. `main` serves the weights of the
last step, as many repositories do.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

NOISE = {"step0": 1.0, "step1000": 0.4, "step2000": 0.15, "step3000": 0.0, "main": 0.0}
"""Noise on the weights, as a share of their spread, by revision."""


def commit_of(number: int) -> str:
    """A commit as on the Hub."""
    return f"{number + 1:040x}"


def make_revisions(cache: Path, model: Path, repo: str, noise: Mapping[str, float] = NOISE) -> Path:
    """Lay out revisions of a model as the Hub's client does: ``refs/<revision>`` and ``snapshots/<commit>``.

    Args:
        cache: Folder of the cache.
        model: Folder of the model at the end of its training, with its weights in one file.
        repo: Id of the repository.
        noise: Noise by revision.

    Returns:
        The folder of the repository.
    """
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    final = load_file(model / "model.safetensors")
    for number, (revision, share) in enumerate(noise.items()):
        (root / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        (root / "refs" / revision).write_text(commit_of(number))
        folder = Path(shutil.copytree(model, root / "snapshots" / commit_of(number)))
        save_file(noised(final, share), folder / "model.safetensors", metadata={"format": "pt"})
    return root


def noised(weights: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """The weights with noise in one direction that is the same for every share."""
    generator = torch.Generator().manual_seed(7)
    found = {}
    for name, weight in weights.items():
        noise = torch.randn(weight.shape, generator=generator) * float(weight.float().std(correction=0))
        found[name] = (weight.float() + share * noise).to(weight.dtype)
    return found


def main() -> None:
    """Make the revisions that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the cache: HF_HUB_CACHE of later commands")
    parser.add_argument("--repo", default="org/steps", help="id of the repository; default: org/steps")
    parser.add_argument("--noise", nargs="+", metavar="REVISION=SHARE", help="default: step0=1.0 step1000=0.4 …")
    given = parser.parse_args()
    noise = NOISE if given.noise is None else {name: float(of) for name, of in (one.split("=") for one in given.noise)}
    print(make_revisions(given.cache, given.model, given.repo, noise))


if __name__ == "__main__":
    main()
