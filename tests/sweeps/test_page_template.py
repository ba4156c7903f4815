import base64
import hashlib
import re

from logos_pl.kinds.registry import kinds
from logos_pl.sweeps.page_template import page_halves


def test_the_policy_allows_the_pages_own_script_and_style_by_their_hashes() -> None:
    page = "".join(page_halves("demo"))
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page


def test_every_place_of_the_template_is_filled() -> None:
    assert re.findall(r"@[a-z-]+@", "".join(page_halves("demo"))) == []


def test_every_lens_of_a_sweep_has_a_light_and_a_dark_colour() -> None:
    head = page_halves("demo")[0]
    for kind in kinds():
        assert (f"--{kind.name}: light-dark(#" in head) == kind.swept
        assert (f".{kind.name} {{ color: var(--{kind.name}); }}" in head) == kind.swept


def test_a_name_that_looks_like_a_place_or_a_tag_stays_text() -> None:
    head, tail = page_halves("@script@ <b>")
    assert "@script@ &lt;b&gt;" in head
    assert "<b>" not in head + tail
