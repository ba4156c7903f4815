"""Every bit of an artifact on disk is held by a hash: one that flips is refused, by the name of its file."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts.gates import record_gates
from logos_pl.artifacts.prism import load_prism, save_prism
from logos_pl.artifacts.tuned_lens import load_lenses, save_tuned_lens
from logos_pl.errors import InputError
from tests.artifacts.lenses import make_lm, make_provenance, make_translators
from tests.artifacts.prisms import make_map, prism_provenance
from tests.artifacts.verdicts import gate_files

FLIPS_PER_FILE = 25


def make_lens(folder: Path) -> None:
    """A lens with a bias-only lens and a verdict."""
    translators = make_translators()
    provenance = make_provenance(make_lm(), translators)
    saved = save_tuned_lens(folder, translators, provenance, make_translators(rank=0))
    record_gates(folder, saved.provenance, gate_files())


def make_prism(folder: Path) -> None:
    save_prism(folder, make_map(), prism_provenance())


@pytest.mark.parametrize(("make", "load"), [(make_lens, load_lenses), (make_prism, load_prism)])
def test_a_flipped_bit_of_any_file_is_refused_by_its_name(
    make: Callable[[Path], None], load: Callable[[Path], Any], tmp_path: Path
) -> None:
    make(tmp_path / "tiny")
    load(tmp_path / "tiny")
    draw = random.Random(316)
    for path in sorted((tmp_path / "tiny").iterdir()):
        whole = path.read_bytes()
        for place in draw.choices(range(len(whole)), k=FLIPS_PER_FILE):
            data = bytearray(whole)
            data[place] ^= 1 << draw.randrange(8)
            path.write_bytes(data)
            with pytest.raises(InputError) as refusal:
                load(tmp_path / "tiny")
            assert path.name in str(refusal.value), (path.name, place)
            assert "\n" not in str(refusal.value)
        path.write_bytes(whole)
    load(tmp_path / "tiny")
