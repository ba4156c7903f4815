"""Running a model on a few token ids with its modules watched, and refusing it by name."""

from jaxtyping import Float, Int
from torch import Tensor, arange, nn
from transformers import PreTrainedModel

from logos_pl.errors import InputError
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
    """
    name = type(model).__name__
    try:
        calls, output = record_calls(lambda: model(input_ids=input_ids, use_cache=False), watched)
    except (TypeError, ValueError) as error:
        raise unsupported(name, f"it does not run on token ids alone ({_first_line(error)})") from error
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise unsupported(name, "its forward returns no logits")
    return calls, logits


def last_call(calls: list[Call], module: nn.Module) -> Call:
    """The last call of a module that is known to have been called."""
    return next(call for call in reversed(calls) if call.module is module)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
