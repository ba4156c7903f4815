"""Names of GGUF files: found in a folder, or given. Imports neither torch nor transformers."""

from pathlib import Path

from logos_pl.errors import InputError

ENDING = ".gguf"


def only_gguf(folder: Path) -> str | None:
    """The GGUF file of a folder that holds no other weights and no configuration; None if there is none.

    Raises:
        InputError: There are several.
    """
    others = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")
    if any(path for pattern in others for path in folder.glob(pattern)):
        return None
    found = sorted(path.name for path in folder.glob(f"*{ENDING}"))
    if len(found) > 1:
        raise InputError(
            f"the folder {folder} holds {len(found)} GGUF files, {found[0]} first: give one of them with --model.gguf."
        )
    return found[0] if found else None


def check_gguf_name(name: str) -> str:
    """The name of a GGUF file, after checking it.

    Raises:
        InputError: It is not a plain file name with the right ending.
    """
    if not name.endswith(ENDING) or name.startswith(".") or not set(name).isdisjoint("/\\\0\n\r*?["):
        raise InputError(
            f"--model.gguf {name!r} is not the name of a {ENDING} file in the model's folder or repository."
        )
    return name
