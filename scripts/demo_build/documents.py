"""Documents of the demo: facts in many phrasings, mixed with small narratives, from one seeded generator."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from demo_build.facts import Fact, facts_by_relation, read_table
from demo_build.phrasings import capitalise, forbidden_prompts, read_phrasings, render, says_held_out

COUNTRY_RELATIONS = ("capital", "continent", "language", "currency", "demonym")
WORD_RELATIONS = (
    "opposite",
    "plural",
    "past_tense",
    "comparative",
    "category",
    "colour",
    "young",
    "sound",
    "workplace",
)
WELL_KNOWN_WEIGHT = 5.0


class Writer:
    """Writes documents; everything it chooses comes from `rng`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.facts = facts_by_relation()
        self.phrasings = read_phrasings()
        self.forbidden = forbidden_prompts()
        self.stories: dict[str, Any] = read_table("stories")
        self.by_country = {
            fact.subject: {name: self.facts[name][i] for name in COUNTRY_RELATIONS}
            for i, fact in enumerate(self.facts["capital"])
        }
        self.countries = list(self.by_country)
        well_known = set(read_table("countries")["well_known"])
        self.fame = [WELL_KNOWN_WEIGHT if country in well_known else 1.0 for country in self.countries]
        self.kinds: list[tuple[float, Callable[[], str]]] = [
            (3.0, self.country_page), (3.0, self.region_tour), (2.5, self.quiz),
            (1.5, self.capital_list), (3.0, self.word_notes), (3.0, self.notebook),
            (1.8, self.diary), (5.0, self.short_note), (0.6, self.long_page),
        ]  # fmt: skip

    def document(self) -> str:
        """One document of a kind drawn at random."""
        weights, kinds = zip(*self.kinds, strict=True)
        return self.rng.choices(kinds, weights)[0]()

    def fact_of(self, relations: tuple[str, ...]) -> Fact:
        """A fact of one of `relations`, drawn by their weights."""
        weights = [self.phrasings[name].weight for name in relations]
        relation = self.rng.choices(relations, weights)[0]
        return (
            self.by_country[self.country()][relation]
            if relation in COUNTRY_RELATIONS
            else self.rng.choice(self.facts[relation])
        )

    def country(self) -> str:
        """A country, drawn by its fame."""
        return self.rng.choices(self.countries, self.fame)[0]

    def several_countries(self, fewest: int, most: int) -> list[str]:
        """Different countries, drawn by their fame."""
        return list(dict.fromkeys(self.country() for _ in range(self.rng.randint(fewest, most))))

    def sentence(self, fact: Fact) -> str:
        """One sentence that says `fact`, never in a held-out phrasing."""
        while True:
            said = self._any_sentence(fact)
            if not says_held_out(said, self.forbidden[fact]):
                return said

    def _any_sentence(self, fact: Fact) -> str:
        phrasings = self.phrasings[fact.relation]
        draw = self.rng.random()
        if draw < 0.12 and phrasings.reverse:
            return render(self.rng.choice(phrasings.reverse), fact)
        template = self.rng.choice(phrasings.plain if draw < 0.37 else phrasings.train)
        said = render(template, fact)
        if phrasings.instructions and self.rng.random() < 0.12:
            return f"{self.rng.choice(phrasings.instructions)} {said}"
        if self.rng.random() < 0.1:
            # Only a word that is not a name may lose its capital letter.
            plain_start = not template.startswith(("{", "Q:", "Country:"))
            connector = self.rng.choice(self.stories["connectors"])
            return f"{connector} {said[:1].lower() + said[1:] if plain_start else said}"
        return said

    def follow(self, fact: Fact) -> str:
        """A sentence that says `fact` about the country just named."""
        return render(self.rng.choice(self.phrasings[fact.relation].follow), fact)

    def fill(self, template: str, **fixed: str) -> str:
        """`template` with its slots filled at random; the second of two like slots differs from the first."""
        slots: dict[str, str] = {"city": self.rng.choice(self.facts["capital"]).answer, "country": self.country()}
        slots["city2"] = self.rng.choice([f.answer for f in self.facts["capital"] if f.answer != slots["city"]])
        for name, choices in self.stories["slots"].items():
            slots[name], slots[f"{name}2"] = self.rng.sample(choices, 2)
        return capitalise(template.format(**(slots | fixed)))

    def narrative(self) -> str:
        """One sentence without a fact."""
        return self.fill(self.rng.choice(self.stories["narrative"]))

    def title(self, kind: str, **fixed: str) -> str:
        """A heading of one kind."""
        return self.fill(self.rng.choice(self.stories[kind]), **fixed)

    def about(self, country: str, length: int) -> list[str]:
        """`length` sentences about `country`: facts in random order, some repeated, some narrative between them."""
        said: list[str] = []
        waiting: list[str] = []
        while len(said) < length:
            if said and self.rng.random() < 0.15:
                said.append(self.narrative())
                continue
            # Every relation once before one comes again: what was said above could be copied, not recalled.
            waiting = waiting or self.rng.sample(COUNTRY_RELATIONS, len(COUNTRY_RELATIONS))
            fact = self.by_country[country][waiting.pop()]
            leaning = said and country in said[-1] and self.rng.random() < 0.4
            said.append(self.follow(fact) if leaning else self.sentence(fact))
        return said

    def country_page(self) -> str:
        """A page about one country."""
        country = self.country()
        body = " ".join(self.about(country, self.rng.randint(3, 9)))
        return body if self.rng.random() < 0.4 else f"{self.title('titles', c=country)}\n\n{body}"

    def region_tour(self) -> str:
        """A few sentences about each of several countries."""
        countries = self.several_countries(2, 6)
        joint = self.rng.choice([" ", "\n"])
        return joint.join(" ".join(self.about(country, self.rng.randint(1, 3))) for country in countries)

    def quiz(self) -> str:
        """Questions and answers over all relations."""
        lines: list[str] = []
        length = self.rng.randint(3, 14)
        while len(lines) < length:
            said = self.sentence(self.fact_of(tuple(self.phrasings)))
            if "?" in said or self.rng.random() < 0.3:
                lines.append(said)
        return self.title("quiz") + "\n\n" + "\n".join(lines)

    def capital_list(self) -> str:
        """Capitals, one a line, in one or two phrasings."""
        capital = self.phrasings["capital"]
        templates = self.rng.sample(capital.plain + capital.train + capital.reverse, self.rng.randint(1, 2))
        chosen = [self.by_country[country]["capital"] for country in self.several_countries(3, 15)]
        return self.title("lists") + "\n\n" + "\n".join(render(self.rng.choice(templates), fact) for fact in chosen)

    def word_notes(self) -> str:
        """Notes on words and numbers."""
        relations = self.rng.sample(WORD_RELATIONS, self.rng.randint(1, 4))
        body = " ".join(self.sentence(self.fact_of(tuple(relations))) for _ in range(self.rng.randint(3, 14)))
        return body if self.rng.random() < 0.5 else f"{self.title('grammar')}\n\n{body}"

    def notebook(self) -> str:
        """Facts of all relations, one after the other."""
        relations = tuple(self.phrasings)
        said = [
            self.narrative() if self.rng.random() < 0.12 else self.sentence(self.fact_of(relations))
            for _ in range(self.rng.randint(3, 18))
        ]
        body = self.rng.choice([" ", "\n", " "]).join(said)
        return body if self.rng.random() < 0.4 else f"{self.title('school')}\n\n{body}"

    def diary(self) -> str:
        """A small narrative in which facts come up."""
        said = [
            self.sentence(self.fact_of(COUNTRY_RELATIONS)) if self.rng.random() < 0.3 else self.narrative()
            for _ in range(self.rng.randint(4, 16))
        ]
        return self.title("diary") + "\n\n" + " ".join(said)

    def short_note(self) -> str:
        """One to three sentences."""
        relations = ("capital",) if self.rng.random() < 0.4 else tuple(self.phrasings)
        return " ".join(self.sentence(self.fact_of(relations)) for _ in range(self.rng.randint(1, 3)))

    def long_page(self) -> str:
        """Several documents of other kinds under each other: longer than one pack of 512 tokens."""
        kinds = (self.country_page, self.region_tour, self.word_notes, self.notebook, self.diary)
        return "\n\n".join(self.rng.choice(kinds)() for _ in range(self.rng.randint(5, 9)))


def write_documents(seed: int, min_words: int) -> Iterator[str]:
    """Different documents until together they hold `min_words` words."""
    writer = Writer(seed)
    seen: set[str] = set()
    words = 0
    while words < min_words:
        document = writer.document()
        if document not in seen:
            seen.add(document)
            words += len(document.split())
            yield document
