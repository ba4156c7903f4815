"""How a model was loaded, if not from the plain weights of its folder or repository."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class MergedAdapter:
    """An adapter that was merged into the weights.

    Attributes:
        adapter_id: Its Hub id, or its folder's name.
        commit: Hub commit, or ``sha256:…`` over the folder's files.
        sha256: Hash of its configuration and weights.
        type: Its type in peft, such as ``LORA``.
        base_id: Hub id or folder name of the model it was merged into.
        base_commit: Hub commit of that model, or ``sha256:…`` over its files.
    """

    adapter_id: str
    commit: str
    sha256: str
    type: str
    base_id: str
    base_commit: str

    @property
    def model_commit(self) -> str:
        """``sha256:…`` over base and adapter, which identifies the adapted model."""
        words = f"{self.base_commit}\n{self.sha256}\n"  # by content: a folder may be renamed
        return f"sha256:{hashlib.sha256(words.encode()).hexdigest()}"


@dataclass(frozen=True)
class LoadedAs:
    """What was loaded, if not the plain weights of the model's folder or repository.

    Attributes:
        format: Format of quantised weights, such as ``GGUF Q4_1``; None for weights without quantisation.
        in_memory: Whether they stay quantised in memory or are de-quantised when loaded; None without quantisation.
        repo_id: Hub id or folder name that holds a GGUF file; None if there is none.
        file: Name of the GGUF file; None likewise.
        sha256: Hash of that file; None likewise.
        adapter: The adapter that was merged into the weights; None if there is none.
    """

    format: str | None = None
    in_memory: str | None = None
    repo_id: str | None = None
    file: str | None = None
    sha256: str | None = None
    adapter: MergedAdapter | None = None

    def words(self) -> str:
        """Description for messages and cards."""
        parts = [] if self.format is None else [f"{self.format}, {self.in_memory}"]
        if self.adapter is not None:
            merged = self.adapter
            parts.append(f"the {merged.type} adapter {merged.adapter_id}, merged into {merged.base_id}")
        return "; ".join(parts)

    def same_numbers(self, other: "LoadedAs") -> bool:
        """Whether format and hashes are the same; names of files and folders do not matter."""
        adapters = [None if of.adapter is None else of.adapter.sha256 for of in (self, other)]
        return (self.format, self.sha256) == (other.format, other.sha256) and adapters[0] == adapters[1]
