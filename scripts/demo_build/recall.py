"""What the demo's model recalls on held-out phrasings, and at which row the logit lens first shows it."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from demo_build.facts import Fact, facts_by_relation
from demo_build.phrasings import prompt_of, read_phrasings


class Recall(NamedTuple):
    """How many prompts have their answer's first token at rank 1."""

    right: int
    prompts: int

    @property
    def share(self) -> float:
        """Right prompts over all prompts."""
        return self.right / self.prompts


def answer_id(tokenizer: PreTrainedTokenizerFast, fact: Fact) -> int:
    """First token of the answer, with the space before it."""
    return int(tokenizer(f" {fact.answer}", add_special_tokens=False).input_ids[0])


def _last_positions(lengths: list[int]) -> Int[Tensor, " batch"]:
    return torch.tensor(lengths) - 1


@torch.no_grad()
def top_ids_per_row(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str]
) -> Int[Tensor, "rows batch"]:
    """Rank-1 token after each prompt at rows 0 to n: final norm and head on the residual after each block."""
    encoded = [tokenizer(prompt).input_ids for prompt in prompts]
    width = max(len(ids) for ids in encoded)
    # Padding is on the right, after every position that is read, so a causal model never sees it.
    batch = torch.tensor([ids + [0] * (width - len(ids)) for ids in encoded])
    output = model(batch, use_cache=False, output_hidden_states=True)
    index = (torch.arange(len(encoded)), _last_positions([len(ids) for ids in encoded]))
    inner = [model.lm_head(model.model.norm(state[index])).argmax(-1) for state in output.hidden_states[:-1]]
    return torch.stack([*inner, output.logits[index].argmax(-1)])


def hits_per_row(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, template: str, facts: list[Fact]
) -> Int[Tensor, "rows batch"]:
    """Tensor of 1 where the answer is at rank 1 and 0 elsewhere, for `template` over `facts` at every row."""
    wanted = torch.tensor([answer_id(tokenizer, fact) for fact in facts])
    top = top_ids_per_row(model, tokenizer, [prompt_of(template, fact) for fact in facts])
    return (top == wanted).int()


def recall_by_phrasing(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, dict[str, Recall]]:
    """Recall of each held-out phrasing over every fact of its relation."""
    facts = facts_by_relation()
    recall: dict[str, dict[str, Recall]] = {}
    for relation, phrasings in read_phrasings().items():
        recall[relation] = {}
        for template in phrasings.held_out:
            final = hits_per_row(model, tokenizer, template, facts[relation])[-1]
            recall[relation][template] = Recall(int(final.sum()), len(facts[relation]))
    return recall


def together(recalls: list[Recall]) -> Recall:
    """Several recalls counted as one."""
    return Recall(sum(r.right for r in recalls), sum(r.prompts for r in recalls))


def first_row_histogram(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, template: str, relation: str
) -> list[int]:
    """Facts by the first row at which the answer is at rank 1 under the logit lens; the last entry: at none."""
    hits = hits_per_row(model, tokenizer, template, facts_by_relation()[relation])
    rows = len(hits)
    first = torch.where(hits.any(0), hits.argmax(0), rows)
    return torch.bincount(first, minlength=rows + 1).tolist()
