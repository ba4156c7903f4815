"""Kinds of cases for files written by logos-pl: lenses, Prisms, checkpoints, releases, records; and others' lenses.

Damage to a file with a recorded hash must be refused. An edit by an attacker who also updates the hashes may be refused
or read, but must not cause any other failure.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch

from fuzzing.case import Case, Kind, command, from_python
from fuzzing.damage import damaged, flipped, put, replaced
from fuzzing.inputs import CONFIG, NO_OTHER_LENS
from fuzzing.values import ESCAPES, NUMBERS, at, edited, shown, to_json
from fuzzing.workspace import COMMIT, REPO
from logos_pl.artifacts.jacobian import read_jacobian
from logos_pl.artifacts.prism import load_prism
from logos_pl.artifacts.tuned_lens import load_lenses
from logos_pl.cli.run_folder import find_checkpoint
from logos_pl.fit.checkpoint import AtomicCheckpointIO
from logos_pl.hub.index import read_index
from logos_pl.hub.verify import artifact_files
from logos_pl.sweeps.record_csv import read_records

LENS, PRISM, JACOBIAN = "checkpoints/tuned_lenses/tiny", "checkpoints/prisms/tiny", "checkpoints/jacobians/tiny"
HUB = "hub"
CACHE = f"cache/hub/datasets--{REPO.replace('/', '--')}/snapshots/{COMMIT}"
PROVENANCE = "provenance.json"


def files_of(folder: Path) -> list[Path]:
    """All files of a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _pick(rng: Random, folder: Path) -> Path:
    """A file; small ones that are read first are chosen more often than pictures and tables."""
    files = files_of(folder)
    weights = [6 if path.suffix in (".json", ".pt", ".sha256") else 1 for path in files]
    return rng.choices(files, weights)[0]


def reseal(folder: Path, changed: str) -> None:
    """Update the hash of a changed file everywhere, as an attacker would."""
    data = (folder / changed).read_bytes()
    provenance = folder / PROVENANCE
    if changed != PROVENANCE:
        old = json.loads(provenance.read_text())
        old["sha256"][changed] = hashlib.sha256(data).hexdigest()
        put(provenance, json.dumps(old, indent=2))
    for path in folder.iterdir():
        if path.suffix == ".sha256" and (folder / path.stem).is_file():
            digest = hashlib.sha256((folder / path.stem).read_bytes()).hexdigest()
            put(path, path.read_text().replace(path.read_text().split()[0], digest))


def _lens_reader(rng: Random, title: str, *, changed: bool) -> Case:
    if rng.random() < 0.7:
        return from_python(title, f"load_lenses({LENS!r})", lambda: load_lenses(LENS), changed_byte=changed)
    predict = ["predict", "--sweep.tuned=require"]
    reader = rng.choice(([*predict, "--data.prompt", "sun moon"], predict, ["validate"], ["test"]))
    return command(title, [*reader, *CONFIG], changed_byte=changed)


def lens(rng: Random, root: Path) -> Case:
    """A tuned lens: damage that hashes detect, and edits with matching hashes."""
    folder = root / LENS
    return _sealed(rng, folder, _lens_reader)


def _prism_reader(rng: Random, title: str, *, changed: bool) -> Case:
    if rng.random() < 0.6:
        return from_python(title, f"load_prism({PRISM!r})", lambda: load_prism(PRISM), changed_byte=changed)
    reader = rng.choice((["predict", "--data.prompt", "sun moon", "--sweep.prism=require"], ["validate"]))
    return command(title, [*reader, *CONFIG], changed_byte=changed)


def prism(rng: Random, root: Path) -> Case:
    """A Prism lens, in the same ways."""
    return _sealed(rng, root / PRISM, _prism_reader)


def _fitted_jacobian_reader(rng: Random, title: str, *, changed: bool) -> Case:
    if rng.random() < 0.6:
        return from_python(title, f"read_jacobian({JACOBIAN!r})", lambda: read_jacobian(JACOBIAN), changed_byte=changed)
    reader = rng.choice((["predict", "--data.prompt", "sun moon", "--sweep.jacobian=require"], ["validate"], ["test"]))
    return command(title, [*reader, *CONFIG], changed_byte=changed)


def fitted_jacobian(rng: Random, root: Path) -> Case:
    """A Jacobian lens of ours, in the same ways."""
    return _sealed(rng, root / JACOBIAN, _fitted_jacobian_reader)


def _sealed(rng: Random, folder: Path, reader: Any) -> Case:
    way = rng.random()
    if way < 0.5:
        path = _pick(rng, folder)
        return reader(rng, (flipped if rng.random() < 0.6 else damaged)(rng, path), changed=True)
    if way < 0.75:
        path = folder / PROVENANCE
        tree, title = edited(rng, json.loads(path.read_text()), most_edits=2)
        put(path, to_json(tree))
        reseal(folder, PROVENANCE)
        return reader(rng, f"provenance: {title}", changed=False)
    if way < 0.93:
        path = rng.choice(sorted(folder.glob("*.pt")))
        title = _forge(rng, path)
        reseal(folder, path.name)
        return reader(rng, f"{path.name}: {title}", changed=False)
    path = _pick(rng, folder)
    return reader(rng, replaced(rng, path), changed=False)


def odd_tensor(rng: Random, like: torch.Tensor) -> tuple[Any, str]:
    """A replacement for a tensor."""
    wide = like.reshape(-1, 1) if like.ndim < 2 else like
    made: dict[str, Any] = {
        "sparse": lambda: wide.to_sparse(),
        "sparse rows": lambda: wide.flatten(0, -2).to_sparse_csr() if wide.numel() else wide.to_sparse(),
        "on meta": lambda: torch.empty(like.shape, device="meta"),
        "vast on meta": lambda: torch.empty(2**40, device="meta"),
        "a number expanded": lambda: torch.zeros(1).expand(2**34),
        "a view with strides": lambda: wide.transpose(0, -1),
        "half": lambda: like.half() if like.is_floating_point() else like,
        "double": lambda: like.double(),
        "complex": lambda: like.to(torch.complex64),
        "integers": lambda: like.long(),
        "booleans": lambda: like.bool(),
        "of eight-bit floats": lambda: like.float().to(torch.float8_e4m3fn),
        "NaN": lambda: like.float() * torch.nan,
        "huge": lambda: like.float() * 0 + 3e38,
        "infinite": lambda: like.float() * 0 + torch.inf,
        "zero": lambda: like * 0,
        "empty": lambda: like.new_zeros(0),
        "without dimensions": lambda: like.new_zeros(()),
        "longer": lambda: torch.cat([wide, wide]),
        "a dimension more": lambda: like[None],
        "twenty dimensions": lambda: like.reshape(*like.shape, *[1] * 20),
        "a list": lambda: like.tolist(),
        "a parameter": lambda: torch.nn.Parameter(like.float()),
        "nested": lambda: {"a": like},
        "something else": lambda: odd_plain(rng),
    }
    what = rng.choice(list(made))
    return made[what](), what


def odd_plain(rng: Random) -> Any:
    """A value that torch may unpickle and that is not a tensor."""
    return rng.choice(
        (None, True, -1, 10**400, *NUMBERS, "", "x" * 5000, ESCAPES, b"\x00", (), [], [None], {}, {1: 2}, {None: {}})
    )


def _tensor_places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield from _tensor_places(item, (*path, key))


def _forge(rng: Random, path: Path) -> str:
    """Save a torch file again with something else in it."""
    tree, title = _forged(rng, path)
    buffer = io.BytesIO()
    torch.save(tree, buffer, _use_new_zipfile_serialization=rng.random() > 0.05)
    put(path, buffer.getvalue())
    return title


def _forged(rng: Random, path: Path) -> tuple[Any, str]:
    """Contents of a torch file with one replacement."""
    tree = torch.load(path, weights_only=True)
    found = [place for place in _tensor_places(tree) if len(place) < 6]
    by_depth: dict[int, list[tuple[Any, ...]]] = {}
    for place in found:
        by_depth.setdefault(len(place), []).append(place)
    place = rng.choice(by_depth[rng.choice(list(by_depth))])
    parent = at(tree, place[:-1])
    old, name = parent[place[-1]], ".".join(map(str, place))
    way = rng.random()
    if way < 0.15:
        del parent[place[-1]]
        title = f"{name} removed"
    elif way < 0.25 and isinstance(parent, dict):
        key = rng.choice((1, None, "x" * 300, ESCAPES, (1, 2), "", 0.5, True))
        parent[key] = parent.pop(place[-1]) if rng.random() < 0.5 else old
        title = f"{name} called {shown(key)}"
    elif way < 0.32:
        tree = rng.choice((odd_plain(rng), [tree], {"a": tree}, torch.zeros(3)))
        title = f"all of it {shown(type(tree).__name__)}"
    elif isinstance(old, torch.Tensor):
        parent[place[-1]], what = odd_tensor(rng, old)
        title = f"{name} {what}"
    else:
        parent[place[-1]] = odd_plain(rng)
        title = f"{name} is {shown(parent[place[-1]])}"
    return tree, title


def imported(rng: Random, root: Path) -> Case:
    """A lens of the tuned-lens package; it has no hashes, so that anything that can be read is read."""
    folder, way = root / "imported", rng.random()
    if way < 0.35:
        tree, title = edited(rng, json.loads((folder / "config.json").read_text()), most_edits=2)
        put(folder / "config.json", to_json(tree))
    elif way < 0.65:
        title = "params.pt: " + _forge(rng, folder / "params.pt")
    elif way < 0.9:
        title = damaged(rng, rng.choice(files_of(folder)))
    else:
        title = replaced(rng, rng.choice(files_of(folder)))
    return command(title, ["predict", *CONFIG, "--data.prompt=sun moon", "--lens.imported=imported", *NO_OTHER_LENS])


def jacobian(rng: Random, root: Path) -> Case:
    """A file of a Jacobian lens with the configuration beside it; likewise without hashes."""
    path, config, way = root / "maps" / "tiny_jacobian_lens.pt", root / "maps" / "config.yaml", rng.random()
    if way < 0.55:
        title = f"{path.name}: " + _forge(rng, path)
    elif way < 0.7:
        title = damaged(rng, config)
    elif way < 0.92:
        title = damaged(rng, path)
    else:
        title = replaced(rng, rng.choice((path, config)))
    given = rng.choice(("--lens.imported=maps", "--lens.imported.j=maps/tiny_jacobian_lens.pt"))
    return command(title, ["predict", *CONFIG, "--data.prompt=sun moon", given, *NO_OTHER_LENS])


def checkpoint(rng: Random, root: Path) -> Case:
    """A checkpoint of a fit: damage, and edits."""
    run = root / "lightning_logs" / "tiny" / "version_0"
    name = rng.choice(("last", "best"))
    path, way = run / f"{name}.ckpt", rng.random()
    changed = way < 0.5
    if changed:
        title = (flipped if rng.random() < 0.7 else damaged)(rng, path)
    elif way < 0.9:
        tree, title = _forged(rng, path)
        AtomicCheckpointIO().save_checkpoint(tree, path)
        title = f"{path.name}: {title}"
    else:
        title = replaced(rng, path)
    shown_path = f"lightning_logs/tiny/version_0/{name}.ckpt"
    if rng.random() < 0.4:
        return from_python(
            title,
            f"find_checkpoint(…, {shown_path!r})",
            lambda: find_checkpoint(Path("lightning_logs"), "tiny", shown_path),
            changed_byte=changed,
        )
    resumes = ["fit", *CONFIG, f"--ckpt_path={rng.choice((name, shown_path)) if name == 'last' else shown_path}"]
    evaluates = [rng.choice(("validate", "predict", "test")), *CONFIG, f"--ckpt_path={rng.choice((name, shown_path))}"]
    return command(title, rng.choice((resumes, resumes, evaluates)), changed_byte=changed)


def _read_release() -> None:
    index = read_index(Path(HUB))
    for kind, model_id, entry in index:
        artifact_files(Path(HUB), kind, model_id, entry)


def hub(rng: Random, root: Path) -> Case:
    """A release in a folder, or in the cache of the Hub's client."""
    cached = rng.random() < 0.3
    folder = root / (CACHE if cached else HUB)
    index, way = folder / "INDEX.json", rng.random()
    changed = False
    if way < 0.35:
        tree, title = edited(rng, json.loads(index.read_text()), most_edits=2)
        put(index, to_json(tree))
    elif way < 0.5:
        title = damaged(rng, index)
    elif way < 0.85:
        path = rng.choice([path for path in files_of(folder) if path != index])
        title, changed = damaged(rng, path), True
    elif way < 0.93:
        title = replaced(rng, rng.choice(files_of(folder)))
    else:
        artifact = folder / rng.choice(("tuned_lenses", "prisms", "jacobians")) / "_local" / "tiny"
        tree, title = edited(rng, json.loads((artifact / PROVENANCE).read_text()))
        put(artifact / PROVENANCE, to_json(tree))
        reseal(artifact, PROVENANCE)
        changed = True  # the index knows another one
    if cached:
        reads = rng.choice((["pull", "--all", "--folder", "pulled"], ["pull", "--all"], ["verify"], ["list"]))
        # `list` shows only the index, and `pull` takes nothing from the cache for lenses already in the folder;
        # licences are not pulled.
        changed = changed and (reads[0] == "verify" or ("--folder" in reads and not title.startswith("LICENSE")))
        return command(f"{title}, in the cache", ["hub", *reads, "--repo_id", REPO], changed_byte=changed)
    if rng.random() < 0.4:
        changed = changed and not title.startswith("LICENSE")  # the command compares those
        return from_python(title, "read_index, artifact_files", _read_release, changed_byte=changed)
    reads = rng.choice((["verify"], ["verify"], ["index"]))
    return command(title, ["hub", *reads, HUB], changed_byte=changed and reads == ["verify"])


def records(rng: Random, root: Path) -> Case:
    """The CSV files of a sweep, read from Python."""
    path = rng.choice(sorted((root / "lightning_logs/sweeps/run-latest").glob("*.csv")))
    title = (damaged if rng.random() < 0.9 else replaced)(rng, path)
    relative = path.relative_to(root)

    def read() -> int:
        return sum(1 for _ in read_records(relative))

    return from_python(title, f"read_records({relative.name!r})", read, also_raises=OSError)


KINDS = (
    Kind("lens", 1000, lens),
    Kind("prism", 450, prism),
    Kind("fitted_jacobian", 200, fitted_jacobian),
    Kind("imported", 350, imported),
    Kind("jacobian", 350, jacobian),
    Kind("checkpoint", 450, checkpoint),
    Kind("hub", 500, hub),
    Kind("records", 150, records),
)
