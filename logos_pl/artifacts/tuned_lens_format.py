"""Reads and checks lenses of the `tuned-lens` package: ``config.json`` and ``params.pt``.

The format, of version 0.2.0: ``params.pt`` holds ``{i}.weight`` and ``{i}.bias`` for 0 ≤ i < n. Translator i reads the
input of block i, which is row i here; final norm and head follow. Source: https://pypi.org/project/tuned-lens.
"""

import hashlib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import hf_hub_download
from torch import Tensor

from logos_pl.artifacts import json_codec
from logos_pl.artifacts.base_model import refuse_other_name, shown_model
from logos_pl.artifacts.unembed_hash import unembed_hash
from logos_pl.artifacts.weights import Weights, decode
from logos_pl.errors import InputError
from logos_pl.io.hub_errors import HubRequest, explaining
from logos_pl.io.parsing import MIB, parse_json, read_bytes, read_text
from logos_pl.lenses.affine import AffineLens
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM

CONFIG_FILE, PARAMS_FILE = "config.json", "params.pt"
HUB_FOLDER = "lens"
"""Folder of the lenses in the package's Space, with a subfolder for each model."""
LENS_TYPE = "linear_tuned_lens"

_STORED = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class FormatConfig:
    """Contents of ``config.json``; unknown keys are ignored, as in the package.

    Attributes:
        base_model_name_or_path: Hub id, or a folder on the machine it was trained on.
        d_model: Width of the residual stream.
        num_hidden_layers: Number n of blocks, and of translators.
        bias: Whether the translators have a bias.
        base_model_revision: Branch, tag or commit of the model.
        unembed_hash: Hash of the model's unembedding; see the function of that name.
        lens_type: ``linear_tuned_lens``.
    """

    base_model_name_or_path: str
    d_model: int
    num_hidden_layers: int
    bias: bool = True
    base_model_revision: str | None = None
    unembed_hash: str | None = None
    lens_type: str = LENS_TYPE

    @property
    def base_model(self) -> str:
        """Hub id, or a folder's name: never a path."""
        return shown_model(self.base_model_name_or_path)


class ImportedOrigin(NamedTuple):
    """Origin of an imported lens, as recorded in its files.

    Attributes:
        base_model: The model it was trained on: Hub id or folder name.
        base_model_revision: Its branch, tag or commit, or None.
        dtype: Number format the translators are stored in.
        unembed_hash: Stored hash, which matches the loaded model; None if none is stored.
        params_sha256: Hash of ``params.pt``.
    """

    base_model: str
    base_model_revision: str | None
    dtype: str
    unembed_hash: str | None
    params_sha256: str


class FormatFiles(NamedTuple):
    """Local paths of the two files of a lens."""

    config: Path
    params: Path


def find_format(reference: str, model_id: str, revision: str | None = None) -> FormatFiles:
    """Find the files of a lens in a folder or a Space of the Hub; of a Space, only this model's files are fetched.

    Args:
        reference: A folder, or the repo id of a Space laid out like ``AlignmentResearch/tuned-lens``.
        model_id: The model, which selects the subfolder of the Space.
        revision: Branch, tag or commit of the Space; None: main.

    Raises:
        InputError: Neither exists, a file is missing, or the Hub refuses or cannot be reached.
        RunError: The files cannot be written to the disk.
    """
    folder = Path(reference).expanduser()
    if folder.is_dir():
        files = FormatFiles(folder / CONFIG_FILE, folder / PARAMS_FILE)
        for path in files:
            if not path.is_file():
                raise InputError(f"{os.path.relpath(folder)} has no {path.name}: {WANTED}.")
        return files
    if folder.exists() or reference.startswith((".", "/", "~")) or reference.count("/") != 1:
        raise InputError(f"There is no folder {reference}: {WANTED}.")
    return FormatFiles(*(_fetch(reference, model_id, name, revision) for name in (CONFIG_FILE, PARAMS_FILE)))


WANTED = (
    f"--lens.imported takes the folder of a lens of the tuned-lens package, with its {CONFIG_FILE} and {PARAMS_FILE}, "
    "the repo id of a Space that holds such lenses (AlignmentResearch/tuned-lens), or the file of a Jacobian lens, "
    "here or on the Hub (owner/repository/folder/lens.pt)"
)


def _fetch(repo_id: str, model_id: str, name: str, revision: str | None) -> Path:
    path = f"{HUB_FOLDER}/{model_id}/{name}"
    missing = f"The Space {repo_id} has no lens for {model_id} ({path} is missing): {WANTED}."
    with explaining(HubRequest("space", repo_id, revision, no_file=missing, wanted=WANTED)):
        return Path(hf_hub_download(repo_id, path, repo_type="space", revision=revision))


def read_config(path: Path) -> FormatConfig:
    """Read the configuration.

    Raises:
        InputError: It cannot be read, has another format, or is for another kind of lens.
    """
    shown = os.path.relpath(path)
    try:
        given = parse_json(read_text(path), shown)
    except OSError as error:
        raise InputError(f"{shown} cannot be read ({error.strerror}): fetch the lens again.") from error
    known = {field.name: field.default for field in fields(FormatConfig)}
    required = {"base_model_name_or_path", "d_model", "num_hidden_layers"}
    if not isinstance(given, dict) or not required <= given.keys():
        raise InputError(
            f"{shown} is not the configuration of a lens, which has {', '.join(sorted(required))}: {WANTED}."
        )
    values = {key: given.get(key, known[key]) for key in known}
    config: FormatConfig = json_codec.from_plain(FormatConfig, values, shown)
    if config.lens_type != LENS_TYPE:
        raise InputError(f"{shown} has lens_type {config.lens_type!r}, but must have {LENS_TYPE!r}.")
    return config


def load_format(files: FormatFiles, lm: FrozenLM, head: Head) -> tuple[AffineLens, ImportedOrigin]:
    """Load a lens of the `tuned-lens` package and check it against the model.

    Args:
        files: Its files, from ``find_format``.
        lm: The model.
        head: The model's head.

    Returns:
        The lens and its origin.

    Raises:
        InputError: A file is missing or damaged, or the model is not the one the lens was trained on.
    """
    config = read_config(files.config)
    check_model(config, lm)
    try:
        data = read_bytes(files.params, _params_bytes(config))
    except OSError as error:
        raise InputError(
            f"{os.path.relpath(files.params)} cannot be read ({error.strerror}): fetch the lens again."
        ) from error
    weight, bias, dtype = _translators(decode(data, PARAMS_FILE), config)
    lens = AffineLens(head, weight, bias)
    digest = hashlib.sha256(data).hexdigest()
    name = str(dtype).removeprefix("torch.")
    return lens, ImportedOrigin(config.base_model, config.base_model_revision, name, config.unembed_hash, digest)


def _params_bytes(config: FormatConfig) -> int:
    """Maximum size in bytes of the translators: all numbers in fp64, plus 1 MiB each for names and padding."""
    n, d = config.num_hidden_layers, config.d_model
    return 8 * n * d * (d + 1) + n * MIB


def check_model(config: FormatConfig, lm: FrozenLM) -> None:
    """Check that name, commit, size and unembedding of the model match those the lens was trained on.

    Raises:
        InputError: One does not; both values are named.
    """
    given = lm.model_id
    copies = (
        f" or, if the two are copies of one model, put {given} into base_model_name_or_path of the lens's {CONFIG_FILE}"
    )
    refuse_other_name(config.base_model, config.base_model_revision, lm, copies)
    sizes = {"trained for": (config.num_hidden_layers, config.d_model), "given": (lm.num_blocks, lm.d_model)}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{which}: {n} blocks of width {d}" for which, (n, d) in sizes.items())
        raise InputError(f"The imported lens does not fit {given} ({said}): use the lens of this model.")
    _check_unembedding(config, lm)


def _check_unembedding(config: FormatConfig, lm: FrozenLM) -> None:
    """Compare the hash, computed from the weights in their dtype and as rounded to each half-precision format."""
    weight = lm.anatomy.lm_head.weight.detach()
    if config.unembed_hash not in (None, *(unembed_hash(weight, dtype) for dtype in _STORED)):
        # A model loaded in half precision may have lost digits that the hash depends on; float32 keeps them all.
        remedy = "" if lm.dtype == torch.float32 else ", or compare in full precision with --model.dtype float32"
        raise InputError(
            f"The imported lens was trained with another unembedding than that of {lm.model_id} (unembed_hash in its "
            f"{CONFIG_FILE}): use the lens of this model{remedy}."
        )


def _translators(params: Weights, config: FormatConfig) -> tuple[Tensor, Tensor, torch.dtype]:
    """W and b of all rows, stacked in fp32, and their stored dtype.

    Raises:
        InputError: A tensor is missing, has another shape, is not floating-point, or not finite; named.
    """
    n, d = config.num_hidden_layers, config.d_model
    kinds: dict[str, tuple[int, ...]] = {"weight": (d, d)} | ({"bias": (d,)} if config.bias else {})
    wanted = {f"{i}.{kind}": shape for i in range(n) for kind, shape in kinds.items()}
    for name in sorted(wanted.keys() | params.keys()):
        found = tuple(params[name].shape) if name in params else None
        if found != wanted.get(name):
            raise InputError(
                f"{PARAMS_FILE}: {name} has shape {found}, but {CONFIG_FILE} requires {wanted.get(name)}: "
                "fetch the lens again."
            )
        if params[name].dtype not in _STORED:
            raise InputError(
                f"{PARAMS_FILE}: {name} is {params[name].dtype}, but must be float32, float16 or bfloat16."
            )
        if not bool(params[name].isfinite().all()):
            raise InputError(f"{PARAMS_FILE}: {name} holds numbers that are NaN or infinite: fetch the lens again.")
    weight = torch.stack([params[f"{i}.weight"].float() for i in range(n)])
    bias = torch.stack([params[f"{i}.bias"].float() if config.bias else torch.zeros(d) for i in range(n)])
    return weight, bias, params["0.weight"].dtype
