import yaml
from huggingface_hub import DatasetCard

from logos_pl.hub.cards import dataset_card, depth_figure, licence_words, notice
from logos_pl.hub.index import Index, Licence, entry_of
from tests.artifacts.lenses import make_provenance

LICENCE = Licence("llama3.1", "https://x.org/licence", ["LICENSES/org/tiny/LICENSE"])


def card(licence: Licence = LICENCE) -> str:
    provenance = make_provenance()
    files = {"provenance.json": provenance.to_json().encode(), "weights.pt": b"x" * 2_000_000}
    index = Index("v2026.01.31").with_entry(
        "tuned_lenses", "org/tiny", entry_of("tuned_lenses", "org/tiny", files, "v2026.01.30", licence)
    )
    index = index.with_entry("prisms", "org/tiny", entry_of("prisms", "org/tiny", files, "v2026.01.31", licence))
    return dataset_card("me/lenses", index, {"org/tiny": provenance})


def test_the_cards_metadata_are_what_the_hubs_client_reads_back() -> None:
    read = DatasetCard(card(), ignore_metadata_errors=False)
    assert read.data.to_dict() == {
        "license": "other",
        "license_name": "per-model",
        "license_link": "LICENSES",
        "pretty_name": "lenses",
        "tags": ["logos-pl", "tuned-lens", "logit-lens", "interpretability"],
        "viewer": False,
    }
    assert yaml.safe_load(card().split("---\n")[1])["license"] == "other"


def test_every_lens_has_a_line_with_the_provenances_figures() -> None:
    line = next(line for line in card().splitlines() if "tuned_lenses/org/tiny" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "[`org/tiny`](tuned_lenses/org/tiny)", "v2026.01.30", "4", "1 to 3", "2.0 MB", "1.500", "3.250",
        "not evaluated",
    ]  # fmt: skip
    assert "| [`org/tiny`](prisms/org/tiny) | v2026.01.31 |" in card()


def test_what_a_reader_has_to_know_is_there() -> None:
    text = card()
    for heading in ("Tuned lenses", "Prisms", "Use", "How they were trained", "Licences", "Limitations", "Citation"):
        assert f"\n## {heading}\n" in text
    assert 'load_tuned_lens("me/lenses", model_id="org/tiny", revision="v2026.01.31")' in text
    compile(text.split("```python\n")[1].split("```")[0], "card", "exec")


def test_a_repository_of_prisms_alone_says_how_these_are_used() -> None:
    files = {"provenance.json": make_provenance().to_json().encode()}
    entry = entry_of("prisms", "org/tiny", files, "v2026.01.31", LICENCE)
    text = dataset_card("me/lenses", Index("v2026.01.31").with_entry("prisms", "org/tiny", entry), {})
    assert "## Tuned lenses" not in text
    assert "load_tuned_lens" not in text
    assert "\nlogos-pl hub pull --repo_id me/lenses --models org/tiny --revision v2026.01.31\n" in text
    assert 'load_prism("checkpoints/prisms/tiny")' in text
    assert 'load_prism("checkpoints/prisms/tiny")' in card()


def test_the_licences_of_a_models_lens_and_prism_both_stand_there() -> None:
    files = {"provenance.json": make_provenance().to_json().encode()}
    index = Index("v2026.01.31")
    index = index.with_entry("prisms", "a/x", entry_of("prisms", "a/x", files, "v1", LICENCE))
    index = index.with_entry(
        "tuned_lenses", "a/x", entry_of("tuned_lenses", "a/x", files, "v1", Licence("mit", None, []))
    )
    text = dataset_card("me/lenses", index, {"a/x": make_provenance()})
    assert "* `a/x` (tuned lens): `mit`\n* `a/x` (Prism): `llama3.1`, https" in text


def test_a_licence_is_what_was_found_and_nothing_else() -> None:
    assert licence_words(LICENCE) == "`llama3.1`, https://x.org/licence, [LICENSE](LICENSES/org/tiny/LICENSE)"
    unknown = Licence(None, None, [])
    assert licence_words(unknown) == "none stated"
    assert "* `org/tiny` (tuned lens): none stated" in card(unknown)
    words = notice("tuned_lenses", "org/tiny", "c0ffee", "v2026.01.31", "me/lenses", unknown)
    assert words.startswith("Tuned lens for org/tiny, version v2026.01.31\n\nMade for org/tiny at c0ffee.")
    assert "Licence in the model's metadata: none\n" in words
    assert "LICENSES" not in words
    assert "  LICENSES/org/tiny/LICENSE\n" in notice("prisms", "org/tiny", "c0", "v1", "me/lenses", LICENCE)


def test_the_figure_is_the_same_for_the_same_lens() -> None:
    pictures = {depth_figure(make_provenance().val_kl_bits, "tiny") for _ in range(2)}
    assert len(pictures) == 1
    assert next(iter(pictures)).startswith(b"\x89PNG\r\n")


EVIL = Licence("<img src=x>`x`", "javascript:alert(1)) ![<b>](x", ["LICENSES/org/tiny/LICENSE (1)"])


def test_what_a_models_repository_says_of_its_licence_is_text_and_nothing_else() -> None:
    text = card(EVIL)
    assert "<img" not in text
    assert "<b>" not in text
    assert "![" not in text.replace(r"!\[", "")
    assert "[LICENSE (1)](LICENSES/org/tiny/LICENSE%20%281%29)" in text
    words = notice("tuned_lenses", "org/tiny", "c0\nYours", "v2026.01.31", "me/lenses", EVIL)
    assert "<img" not in words
    assert "at c0\\nYours." in words


def test_a_model_name_with_dollars_and_line_feeds_is_drawn_as_it_is() -> None:
    name = "a$\\frac$b\n$"
    assert depth_figure(make_provenance().val_kl_bits, name).startswith(b"\x89PNG\r\n")
