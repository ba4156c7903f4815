"""Documentation in a repository of lenses: dataset card, NOTICE of each artifact, and a figure."""

import io
import re
from collections.abc import Mapping

from huggingface_hub import DatasetCardData
from matplotlib.figure import Figure

from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.provenance_schema import PercentileKl
from logos_pl.hub.index import VERDICTS, Entry, Index, Licence
from logos_pl.hub.layout import INDEX_FILE, LICENCES_FOLDER, WORDS, Kind
from logos_pl.io.glyphs import drawable
from logos_pl.io.markdown import code, link, plain_line, table
from logos_pl.lm.sources import clean_name

WEB_ADDRESS = re.compile(r"https?://[\w.~:/?#@!&'+,;=%-]+")
CITATION = """\
```bibtex
@article{belrose2023eliciting,
  title   = {Eliciting Latent Predictions from Transformers with the Tuned Lens},
  author  = {Belrose, Nora and Ostrovsky, Igor and McKinney, Lev and Furman, Zach and Smith, Logan and
             Halawi, Danny and Biderman, Stella and Steinhardt, Jacob},
  journal = {arXiv preprint arXiv:2303.08112},
  year    = {2023}
}
```
"""
LIMITATIONS = """\
* A lens shows what a low-rank affine map can decode from a row, not that the model uses it.
* Each lens is for one model at one commit. Loading refuses another model or commit, by name and by a fingerprint of
  the model's outputs.
* Translators were fitted at positions from the later part of short contexts; much longer contexts were not tested.
* KL divergence need not fall with depth. Do not rely on a lens that has not passed the gates.
* `torch.load(..., weights_only=True)` is all that is needed; no code in these files is executed.
"""


def dataset_card(repo_id: str, index: Index, provenances: Mapping[str, Provenance]) -> str:
    """Return the root ``README.md``: Hub metadata, a table of the artifacts, and usage.

    Args:
        repo_id: Id of the repository.
        index: Index of the repository.
        provenances: Provenances of the tuned lenses, by model id.
    """
    parts = [
        f"---\n{_metadata(repo_id)}\n---\n",
        f"# {repo_id.partition('/')[2]}\n",
        f"Lenses that decode a language model at every depth, made with logos-pl. Release {index.release}.\n",
        *_lenses(index, provenances),
        *_maps("Prisms", index.prisms),
        *_maps("Jacobian lenses", index.jacobians),
        "## Use\n",
        _usage(repo_id, index),
        "## How they were trained\n",
        "Each tuned lens is an affine map of low rank and a temperature per row, fitted by distilling the model's "
        "final distribution into every row ([arXiv:2303.08112](https://arxiv.org/abs/2303.08112)). `provenance.json` "
        "in its folder records text, budget, optimiser and versions; its `README.md` has the figures and the verdict "
        "of the gates. The `README.md` of a Prism or a Jacobian lens says how it was fitted.\n",
        "## Licences\n",
        _licences(index),
        "## Limitations\n",
        LIMITATIONS,
        "## Citation\n",
        CITATION,
    ]
    return "\n".join(parts)


def _metadata(repo_id: str) -> str:
    """Metadata of the repository; without a licence, as licences differ by model, and without the dataset viewer."""
    data = DatasetCardData(
        license="other",
        license_name="per-model",
        license_link=LICENCES_FOLDER,
        pretty_name=repo_id.partition("/")[2],
        tags=["logos-pl", "tuned-lens", "logit-lens", "interpretability"],
        viewer=False,
    )
    return data.to_yaml().strip()


def _lenses(index: Index, provenances: Mapping[str, Provenance]) -> list[str]:
    if not index.tuned_lenses:
        return []
    header = ["Model", "Version", "Rank", "Rows", "Size", "KL(row‖final) at half depth, norm", "tuned", "Gates"]
    lines = []
    for model_id, entry in index.tuned_lenses.items():
        given = provenances[model_id]
        half = given.val_kl_bits.get("50")
        kl = ["–", "–"] if half is None else [f"{lens.kl_to_final_bits:.3f}" for lens in (half.norm, half.tuned)]
        capacity = [str(given.capacity.rank_k), f"1 to {given.capacity.rows}"]
        linked = f"[{code(model_id)}]({entry.path})"
        lines.append([linked, entry.tl_version, *capacity, entry.size, *kl, VERDICTS[entry.gates_passed]])
    note = "\nIn bits, mean over held-out text; `norm` is the norm lens (logit lens).\n"
    return ["## Tuned lenses\n", table(header, lines) + note]


def _maps(title: str, entries: Mapping[str, Entry]) -> list[str]:
    """Table of the lenses of a kind that is not evaluated by the gates."""
    if not entries:
        return []
    lines = [[f"[{code(model)}]({entry.path})", entry.tl_version, entry.size] for model, entry in entries.items()]
    return [f"## {title}\n", table(["Model", "Version", "Size"], lines)]


def _usage(repo_id: str, index: Index) -> str:
    model_id = next(iter({**index.tuned_lenses, **index.prisms, **index.jacobians}), "organisation/model")
    return (
        _tuned_lens_usage(repo_id, index) + "```sh\n"
        f"logos-pl hub list --repo_id {repo_id}\n"
        f"logos-pl hub pull --repo_id {repo_id} --models {model_id} --revision {index.release}\n"
        f"logos-pl hub verify --repo_id {repo_id}\n"
        "```\n\n"
        f"Releases are tags and never change. `{INDEX_FILE}` has the SHA-256 of every file, and every download is "
        "compared with it.\n"
        + _map_usage(repo_id, index, "prisms", "Prism lens", "load_prism", "")
        + _map_usage(repo_id, index, "jacobians", "Jacobian lens", "load_jacobian", ", lm")
    )


def _tuned_lens_usage(repo_id: str, index: Index) -> str:
    if not index.tuned_lenses:
        return ""
    model_id = next(iter(index.tuned_lenses))
    return (
        "```python\n"
        "from logos_pl import load_tuned_lens\n\n"
        f'lens, provenance = load_tuned_lens("{repo_id}", model_id="{model_id}", revision="{index.release}")\n'
        "```\n\n"
    )


def _map_usage(repo_id: str, index: Index, kind: Kind, words: str, load: str, arguments: str) -> str:
    """Usage of a lens that is loaded from the folder it was pulled to."""
    if not index.entries(kind):
        return ""
    model_id = next(iter(index.entries(kind)))
    return (
        f"\nDownload a {words}, then load it:\n\n"
        "```sh\n"
        f"logos-pl hub pull --repo_id {repo_id} --models {model_id} --revision {index.release}\n"
        "```\n\n"
        "```python\n"
        f"from logos_pl import {load}\n\n"
        f'lens, provenance = {load}("checkpoints/{kind}/{clean_name(model_id)}"{arguments})\n'
        "```\n"
    )


def _licences(index: Index) -> str:
    """One line per artifact, stating only what the model's repository states."""
    lines = [f"* {code(model_id)} ({WORDS[kind]}): {licence_words(entry.licence)}" for kind, model_id, entry in index]
    return (
        "The files here contain no weights of the models. The licences stated in the models' own repositories, and "
        f"the licence files in them, copied to `{LICENCES_FOLDER}/`:\n\n" + "\n".join(lines) + "\n"
    )


def licence_words(licence: Licence) -> str:
    """Description of a licence: identifier, link and files, as far as known."""
    parts = ["" if licence.id is None else code(licence.id)]
    if licence.link is not None:
        parts.append(licence.link if WEB_ADDRESS.fullmatch(licence.link) else code(licence.link))
    parts += [link(path.rsplit("/", 1)[-1], path) for path in licence.files]
    return ", ".join(part for part in parts if part) or "none stated"


def notice(kind: Kind, model_id: str, model_commit: str, version: str, repo_id: str, licence: Licence) -> str:
    """Return the ``NOTICE`` of an artifact: its model and the licence of that model."""
    copied = "".join(f"  {path}\n" for path in licence.files)
    files = f"Its licence files, copied to the repository {repo_id}:\n{copied}" if licence.files else ""
    address = "" if licence.link is None else f" ({plain_line(licence.link)})"
    stated = "none" if licence.id is None else plain_line(licence.id)
    name, commit = plain_line(model_id), plain_line(model_commit)
    return (
        f"{WORDS[kind][0].upper()}{WORDS[kind][1:]} for {name}, version {version}\n\n"
        f"Made for {name} at {commit}. These files contain no weights of that model.\n\n"
        f"Licence in the model's metadata: {stated}{address}\n{files}"
    )


def depth_figure(val_kl_bits: Mapping[str, PercentileKl], model_name: str) -> bytes:
    """Plot KL(row‖final) at the depth percentiles as PNG, for a lens that was not tested."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    rows = [at.row for at in val_kl_bits.values()]
    for name, colour in (("norm", "tab:gray"), ("tuned", "tab:blue")):
        values = [getattr(at, name).kl_to_final_bits for at in val_kl_bits.values()]
        axes.plot(rows, values, "-o", color=colour, markersize=4, label=name)
    axes.set_title("".join(drawable(f"{model_name}: validation text")), parse_math=False)
    axes.set_xticks(rows, [f"{row}\n{depth}%" for depth, row in zip(val_kl_bits, rows, strict=True)])
    axes.set_xlabel("row (0: input of the first block), and its depth")
    axes.set_ylabel("KL(row ‖ final), bits")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, metadata={"Software": None})
    return content.getvalue()
