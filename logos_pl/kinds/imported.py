"""Imported lenses: those that others have fitted and published, of the `tuned-lens` package or Jacobian lenses.

The lens that `--lens.imported` gives without a name is called `imported`; each with a name is a kind of its own for as
long as a command runs.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from logos_pl.artifacts.imported_lens import DEFAULT_NAME, Found, Origin, find_imported_lens, load_found
from logos_pl.artifacts.tuned_lens_format import ImportedOrigin
from logos_pl.errors import InputError
from logos_pl.kinds.registry import NAME, LensKind, LensSection, kinds, register, unregister
from logos_pl.kinds.request import FoundLens, LensOptions, LensRequest, LoadedLens
from logos_pl.lenses.affine import AffineLens
from logos_pl.lenses.head import Head
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM

MAX_NAME = 12
"""Characters of a lens's name, so that tables fit into 80 columns."""

NAMED_COLOURS = (
    ("tab:purple", "#7a4fb5", "#b795e8"),
    ("tab:red", "#b3261e", "#f28b82"),
    ("tab:cyan", "#0b7285", "#66d9e8"),
    ("tab:pink", "#a83a86", "#f0a3d6"),
    ("tab:olive", "#6f6f12", "#cfcf5a"),
)
"""Colours of lenses with names of their own, in plots and on the page in light and dark; used in turn."""


def find(request: LensRequest, name: str = DEFAULT_NAME) -> FoundLens:
    """Find an imported lens, if one is given.

    Raises:
        InputError: The lens is missing or of another kind.
        RunError: The downloaded files cannot be written.
    """
    if request.source is None:
        return FoundLens(partial(_load, None, name), there=False)
    found = find_imported_lens(request.source, request.model_id, request.revision)
    return FoundLens(partial(_load, found, name))


def _load(found: Found | None, name: str, lm: FrozenLM, head: Head) -> LoadedLens:
    assert found is not None, "a lens that is not there is not loaded"
    lens, origin = load_found(found, lm, head)
    return LoadedLens({name: lens}, origin, identity=origin.params_sha256, sentence=_sentence(name, origin))


def _sentence(name: str, origin: Origin) -> str:
    called = "imported lens" if name == DEFAULT_NAME else f"imported lens {name}"
    if isinstance(origin, ImportedOrigin):
        return f"{called}: trained for {origin.base_model} with the tuned-lens package"
    model = "a model that its files do not name" if origin.base_model is None else origin.base_model
    estimator = "" if origin.estimator is None else f" ({origin.estimator})"
    first, last, count = origin.rows[0], origin.rows[-1], len(origin.rows)
    whole = f"row {first}" if first == last else f"rows {first} to {last}"
    rows = whole if count == last - first + 1 else f"{count} of rows {first} to {last}"
    return f"{called}: Jacobian lens{estimator} of {model}, {rows}"


def _describe(origin: Origin | None) -> dict[str, object] | None:
    return None if origin is None else origin._asdict()


def is_imported(lens: Lens) -> bool:
    """Whether a lens is of an imported format, and so may have any name."""
    return isinstance(lens, AffineLens | JacobianLens)


IMPORTED = register(
    LensKind(
        name=DEFAULT_NAME,
        label="imported lens",
        colour="tab:green",
        first_row=0,
        find=find,
        validated=True,
        evaluated=True,
        options=LensOptions(by_name="lens.imported"),
        section=LensSection(key="imported_lens", describe=_describe),
        page_colours=("#1f7a3d", "#6fd08c"),
        dash="6 2 2 2",
    )
)


def register_named(names: Iterable[str]) -> list[LensKind]:
    """Register a kind for each imported lens with a name of its own; `unregister_named` removes them.

    Raises:
        InputError: A name is taken or invalid.
    """
    added: list[LensKind] = []
    taken = {kind.name for kind in kinds()}
    try:
        for name in names:
            if name == DEFAULT_NAME:
                continue
            if not NAME.fullmatch(name) or len(name) > MAX_NAME:
                raise InputError(
                    f"--lens.imported: {name[:40]!r} cannot be the name of a lens: give at most {MAX_NAME} lower-case "
                    "letters, digits and underscores, the first a letter."
                )
            if name in taken:
                raise InputError(f"--lens.imported: {name} is already the name of a lens: give it another name.")
            taken.add(name)
            added.append(register(_named_kind(name, len(added))))
    except InputError:
        unregister_named(added)
        raise
    return added


def unregister_named(added: Iterable[LensKind]) -> None:
    """Remove kinds that `register_named` has registered."""
    for kind in added:
        unregister(kind.name)


def _named_kind(name: str, number: int) -> LensKind:
    colour, *page = NAMED_COLOURS[number % len(NAMED_COLOURS)]
    light, dark = page
    return replace(
        IMPORTED,
        name=name,
        label=f"imported lens {name}",
        colour=colour,
        find=partial(find, name=name),
        file_suffix=f"-{name}",
        section=replace(IMPORTED.section, key=f"{name}_lens"),
        page_colours=(light, dark),
    )
