"""Revisions of a tiny model in a Hub cache, in the reach of the real client."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from logos_pl.lm import sources
from scripts.noisy_revisions import commit_of, make_revisions

__all__ = ["REPO", "commit_of", "documents", "make_steps", "offline"]

REPO = "org/steps"


def make_steps(cache: Path, model: Path) -> Path:
    """Lay out steps of the training of a model, and ``main`` with the weights of the last one."""
    return make_revisions(cache, model, REPO)


def offline(patch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
    """Let the real client read this cache alone."""
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    sources.forget()
    yield
    sources.forget()


def documents(folder: Path, pattern: str) -> dict[str, dict[str, object]]:
    """JSON files of a folder by name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob(pattern))}
