"""Try every causal language model of transformers, tiny and random, and write what came of it to docs/families.md.

python scripts/families.py                  # all of them; some minutes
python scripts/families.py llama bert       # some, printed; with --write, put in their places, too
python scripts/families.py --tested         # the table of the tests' families alone; at once
"""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

from transformers import __version__  # noqa: E402
from transformers.utils import logging  # noqa: E402

from scripts.family_trials.table import PAGE, TESTED, TRIED, cells, page_with, read_trials, tried_section  # noqa: E402
from scripts.family_trials.tested import families_of_tests  # noqa: E402
from scripts.family_trials.trial import CAUSAL, DENSE, MULTIMODAL, try_family  # noqa: E402


def main(arguments: Sequence[str]) -> None:
    """Tries the architectures named, or all."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    if "--tested" in arguments:
        PAGE.write_text(page_with(TESTED, families_of_tests()), encoding="utf-8")
        return
    names = [name for name in arguments if name != "--write"]
    trials = read_trials() if names else {}
    for name in names or (*CAUSAL, *MULTIMODAL):
        trials[name] = try_family(name)
        print(" | ".join(cells(trials[name])), trials[name].moved or "", flush=True)
    if not names or "--write" in arguments:
        text = tried_section(trials, try_family(DENSE, batch=True), __version__)
        PAGE.write_text(page_with(TRIED, text), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
