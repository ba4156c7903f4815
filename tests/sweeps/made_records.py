"""Records made by hand: one prompt, one number per row and lens, everything else neutral."""

from collections.abc import Mapping, Sequence

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.sweeps.records import (
    ContributionRecord,
    LastRowCheck,
    LogitAttribution,
    NextTokenRecord,
    NonFinite,
    PairRow,
    PositionRecord,
    PromptRecords,
    TopToken,
)

TOKENS = ("<s>", "Berlin", " is", " simply")
ANSWER = AnswerTokens("resolved", "with_space", (7,), (" Berlin",))


def next_token(layer: int, kl: float, lens: str = "norm", **changes: object) -> NextTokenRecord:
    """A record of row `layer`; without other wishes the reversed KL is 1 bit more and the answer is never first."""
    return NextTokenRecord(
        prompt_id="pos", prompt_variant="orig", lens=lens, fact="", layer=layer, pos=3, token_id=3, token=" simply",
        entropy_bits=5.0, teacher_entropy_bits=2.0, top=(TopToken(9, " the", 0.5),), rest_mass=0.5, p_top1=0.5,
        p_top5=0.5, p_answer=0.01, answer_rank=100, is_answer=False, answer_logit_gap=-1.0, answer_nll_bits=6.6,
        kl_to_final_bits=kl, kl_from_final_bits=kl + 1.0, cos_to_final=0.1, control_margin=None, copy_collapse=False,
        copy_soft=(False, False, False), copy_at=(False, False, False, False), identity_row=False,
        entropy_collapse=False,
    )._replace(**changes)  # fmt: skip


def made_attribution(parts: Mapping[str, float], margin: float | None = None) -> LogitAttribution:
    """Contributions in nats by component, and their sum; to answer minus contrast, `margin` times as much."""
    kinds = {"attn": "attention", "mlp": "mlp", "norm": "bias", "head": "bias", "projection": "bias"}
    records = []
    for component, nats in (*parts.items(), ("total", sum(parts.values()))):
        kind, _, number = component.partition("_")
        layer = int(number) if number.isdigit() else None
        contrast = (None, None, None) if margin is None else (3, " Paris", margin * nats)
        named = ("pos", "orig", component, kinds.get(kind, kind), layer)
        records.append(ContributionRecord(*named, 7, " Berlin", nats, *contrast))
    return LogitAttribution(tuple(records), 0.125, records[-1].contribution_nats, None, None)


def prompt_records(
    kl: Mapping[str, Sequence[float]],
    *,
    prompt: Prompt | None = None,
    answer_tokens: AnswerTokens = ANSWER,
    tokens: Sequence[str] = TOKENS,
    top: str = " the",
    rows: Mapping[str, Mapping[int, Mapping[str, object]]] | None = None,
    nonfinite: Sequence[NonFinite] = (),
) -> PromptRecords:
    """One prompt under the lenses of `kl`, which has a value in bits per row; `rows` changes fields by lens and row."""
    prompt = prompt or Prompt("pos", "orig", "Berlin is simply", "Berlin", None, "Germany → Berlin", "capital")
    changes = rows or {}
    num_rows = len(next(iter(kl.values())))
    name = {"prompt_id": prompt.prompt_id, "prompt_variant": prompt.variant, "fact": prompt.fact}
    return PromptRecords(
        prompt=prompt,
        answer_tokens=answer_tokens,
        contrast=AnswerTokens("none"),
        ids=tuple(range(len(tokens))),
        tokens=tuple(tokens),
        positions={
            lens: [
                PositionRecord(
                    prompt.prompt_id, prompt.variant, lens, prompt.fact, layer, pos, pos, token,
                    5.0, value, value + 1.0, (TopToken(9, top, 0.5),), 0.5,
                )
                for layer, value in enumerate(values)
                for pos, token in enumerate(tokens)
            ]
            for lens, values in kl.items()
        },
        next_token={
            lens: [
                next_token(layer, value, lens, **(name | dict(changes.get(lens, {}).get(layer, {}))))
                for layer, value in enumerate(values)
            ]
            for lens, values in kl.items()
        },
        norm_to_raw=tuple(PairRow(layer, 0.25, True, 0.5, 100, 200) for layer in range(num_rows)),
        final_to_next=tuple(PairRow(layer, 0.125, False, 0.4, 100, 300) for layer in range(num_rows)),
        last_row=LastRowCheck(0.0, True, 1.0, 0.0),
        nonfinite=tuple(nonfinite),
    )  # fmt: skip
