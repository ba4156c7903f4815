"""Running a model on a few token ids with its modules watched, and refusing it by name."""

from jaxtyping import Float, Int
from torch import Tensor, arange, nn
from transformers import PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.foreign import blaming
from logos_pl.lm.trace import Call, record_calls


def unsupported(architecture: str, reason: str) -> InputError:
    """The refusal of an architecture, with its name and the reason."""
    return InputError(f"{architecture} is not supported: {reason}.")


def probe_ids(model: PreTrainedModel, offset: int = 0) -> Int[Tensor, "2 8"]:
    """Two short sequences of token ids spread over the vocabulary; another ``offset`` gives other ids."""
    size = model.get_input_embeddings().weight.shape[0]  # type: ignore[index]
    ids = (arange(16) * max(1, size // 17) + 1 + offset) % size
    return ids.view(2, 8).to(model.device)


def run_traced(
    model: PreTrainedModel, input_ids: Int[Tensor, "batch seq"], watched: list[nn.Module]
) -> tuple[list[Call], Float[Tensor, "batch seq vocab"]]:
    """Calls of the watched modules and the logits, from one forward.

    Raises:
        InputError: The model does not run on token ids alone, or returns no logits.
        RunError: Memory is short.
    """
    name = type(model).__name__
    what = f"{name} is not supported: it does not run on token ids alone"
    with blaming(what, "take another model, or fetch its config.json again", name):
        calls, output = record_calls(lambda: model(input_ids=input_ids, use_cache=False), watched)
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise unsupported(name, "its forward returns no logits")
    return calls, logits


def last_call(calls: list[Call], module: nn.Module) -> Call:
    """The last call of a module that is known to have been called."""
    return next(call for call in reversed(calls) if call.module is module)
