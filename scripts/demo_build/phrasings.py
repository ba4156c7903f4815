"""Phrasings of the relations, and the rule that keeps the held-out ones out of the text."""

from dataclasses import dataclass, field

from demo_build.facts import Fact, facts_by_relation, read_table

ANSWER = " {a}"


@dataclass(frozen=True)
class Phrasings:
    """Phrasings of one relation; the fields are explained at the head of phrasings.yaml."""

    weight: float
    plain: list[str]
    train: list[str]
    held_out: list[str]
    instructions: list[str] = field(default_factory=list)
    reverse: list[str] = field(default_factory=list)
    follow: list[str] = field(default_factory=list)


def read_phrasings() -> dict[str, Phrasings]:
    """Phrasings of every relation, by its name."""
    return {name: Phrasings(**entry) for name, entry in read_table("phrasings").items()}


def capitalise(text: str) -> str:
    """`text` with its first letter in upper case and the rest untouched."""
    return text[:1].upper() + text[1:]


def render(template: str, fact: Fact) -> str:
    """The sentence of `template` for `fact`."""
    answer = capitalise(fact.answer) if template.startswith("{a}") else fact.answer
    return template.format(c=fact.subject, C=capitalise(fact.subject), a=answer)


def prompt_of(template: str, fact: Fact) -> str:
    """Text before the answer in `template`: the prompt whose next token should be the answer's first."""
    return render(template[: template.index(ANSWER)], fact)


def forbidden_prompts() -> dict[Fact, list[str]]:
    """Lower-case prompts of the held-out phrasings, by fact: none of them may occur in the text, in any case."""
    phrasings = read_phrasings()
    return {
        fact: [prompt_of(template, fact).lower() for template in phrasings[relation].held_out]
        for relation, facts in facts_by_relation().items()
        for fact in facts
    }


def says_held_out(sentence: str, prompts: list[str]) -> bool:
    """Whether `sentence` contains one of the held-out `prompts` of its fact."""
    lowered = sentence.lower()
    return any(prompt in lowered for prompt in prompts)
