from fnmatch import fnmatchcase

from logos_pl.kinds.registry import kinds
from logos_pl.sweeps.filenames import GROWING_ENDINGS, TABLE_ENDINGS, WHOLE_ENDINGS


def test_every_file_of_a_sweep_has_one_of_the_endings_and_only_one() -> None:
    tables = [f"-{table}{kind.file_suffix}.csv" for table in ("records", "pure-next-token") for kind in kinds()]
    others = ["-page.html", ".json", "-kl.png", "-decomposition.png", "-residuals-pos-orig.safetensors"]
    endings = (*GROWING_ENDINGS, *WHOLE_ENDINGS)
    for name in (*tables, "-decomposition.csv", *others):
        assert sum(fnmatchcase(f"output-m{name}", f"output-m{ending}") for ending in endings) == 1, name
    assert all(any(fnmatchcase(name, ending) for ending in TABLE_ENDINGS) for name in tables)
