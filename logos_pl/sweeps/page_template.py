"""Template of the HTML page: one file made of the parts in `page_parts`, with each lens's style from the registry."""

import base64
import hashlib
import html
from importlib.resources import files

from matplotlib.colors import to_hex

from logos_pl.io.markdown import in_one_line
from logos_pl.kinds.registry import kinds

SCRIPTS = (
    "palette.js", "state.js", "text.js", "grid.js", "detail.js", "chart.js", "follow.js", "prompt.js", "reader.js",
    "view.js", "export.js", "start.js",
)  # fmt: skip
"""Parts of the script in their order; the last starts it."""

_PLACE_OF_DATA = "<!-- data -->\n"


def page_halves(model_name: str) -> tuple[str, str]:
    """Page before and after its data, with the model's name and a Content-Security-Policy.

    The policy allows only this page's script and style, and no requests.
    """
    style = _with_lens_styles(_part("page.css"))
    script = '"use strict";\n\n' + "\n".join(map(_part, SCRIPTS))
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head, _, tail = _part("page.html").partition(_PLACE_OF_DATA)
    places = {"@policy@": policy, "@style@": style, "@model@": html.escape(in_one_line(model_name))}
    for place, text in places.items():
        head = head.replace(place, text)
    return head, tail.replace("@script@", script)


def _part(name: str) -> str:
    """Text of a part."""
    return files("logos_pl.sweeps").joinpath("page_parts", name).read_text(encoding="utf-8")


def _with_lens_styles(style: str) -> str:
    """Style with the colour, light and dark, and dash pattern of every lens in sweeps."""
    read = [kind for kind in kinds() if kind.swept]
    pairs = {kind.name: kind.page_colours or (to_hex(kind.colour),) * 2 for kind in read}
    colours = " ".join(f"--{name}: light-dark({light}, {dark});" for name, (light, dark) in pairs.items())
    rules = " ".join(f".{kind.name} {{ color: var(--{kind.name}); }}" for kind in read)
    dashes = " ".join(f".{kind.name} .line {{ stroke-dasharray: {kind.dash}; }}" for kind in read if kind.dash)
    return style.replace("@lens-colours@", colours).replace("@lens-rules@", f"{rules}\n{dashes}")


def _source(text: str) -> str:
    """SHA-256 source of an inline element for the Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
