"""The model on a card: what was loaded, and how to load it again."""

from logos_pl.artifacts.provenance import Described
from logos_pl.demo import DEMO
from logos_pl.io.markdown import code, escaped, literal
from logos_pl.lm.model_names import HUB_COMMIT


def loaded_facts(p: Described) -> dict[str, str]:
    """What was loaded of a quantised or adapted model; empty for plain weights."""
    loaded = p.fingerprint.loaded_as
    if loaded is None:
        return {}
    facts = {"Weights": escaped(loaded.words())}
    if loaded.file is not None:
        facts["File"] = f"{code(loaded.file)} of {code(str(loaded.repo_id))}, sha256 {code(str(loaded.sha256))}"
    if loaded.adapter is not None:
        of = loaded.adapter
        facts["Base model"] = f"{code(of.base_id)} at {code(of.base_commit)}"
        facts["Adapter"] = f"{code(of.adapter_id)} at {code(of.commit)}, sha256 {code(of.sha256)}"
    return facts


def weights_line(p: Described) -> str:
    """The same as an item of a list; empty for plain weights."""
    return "".join(f"- {name}: {what}.\n" for name, what in loaded_facts(p).items())


def quick_start(p: Described, load: str, arguments: str, row: int) -> str:
    """Example of reading a row from Python.

    Args:
        p: Provenance of the lens.
        load: Name of the function that loads the lens.
        arguments: Its arguments.
        row: The row to read.
    """
    return (
        "```python\n"
        f"from logos_pl import lens_logits, load_model, {load}\n\n"
        f"lm = load_model({_model_arguments(p)})\n"
        f"lens, provenance = {load}({arguments})\n"
        f'logits = lens_logits(lm, lens, "The capital of Germany is", row={row})\n'
        "print(lm.tokenizer.decode(logits[-1].argmax()))\n"
        "```\n"
    )


def _model_arguments(p: Described) -> str:
    """Arguments of ``load_model``. The id of local files is only a name; the reader must fill in the path."""
    loaded = p.fingerprint.loaded_as
    merged = None if loaded is None else loaded.adapter
    model_id, commit, further = p.model_id, p.model_commit, ""
    if merged is not None:
        model_id, commit = merged.base_id, merged.base_commit
        further = f", adapter={literal(_place(merged.adapter_id, merged.commit))}"
    elif loaded is not None and loaded.file is not None:
        model_id, further = str(loaded.repo_id), f", gguf={literal(loaded.file)}"
    pinned = f', revision="{commit}"' if HUB_COMMIT.fullmatch(commit) else ""
    return f"{literal(_place(model_id, commit))}{pinned}{further}"


def _place(name: str, commit: str) -> str:
    """A Hub id or ``demo``, or a placeholder for the path of the reader's own folder of this name."""
    return f"path/to/{name}" if commit.startswith("sha256:") and name != DEMO else name
