"""What the package registry shows: the README with links that work there, and the project's addresses.

Of the README's links to files of the repository a registry knows nothing. With the repository's address in
`pyproject.toml` (`[tool.hatch.metadata.hooks.custom] repository = "https://…"`, to be given before the first upload)
they become absolute; without it their text stays, and that of pictures.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?://|mailto:|#)(?P<target>[^)\s]+)\)")


class RegistryPage(MetadataHookInterface):
    """Gives `readme`, and `urls` where there are any."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add what depends on the repository's address; `metadata` is changed in place."""
        repository = self.config.get("repository")
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": registry_page(readme, repository)}
        metadata["urls"] = addresses(repository)


def registry_page(readme: str, repository: str | None) -> str:
    """Markdown of the README for the registry; code blocks stay, comments go.

    Args:
        readme: Contents of the README.
        repository: Address of the repository; None if there is none yet.
    """

    def there(link: re.Match[str]) -> str:
        if repository is None:
            return f"*Figure in the repository: {link['text']}.*" if link["picture"] else link["text"]
        kind = "raw" if link["picture"] else "blob"
        return f"{link['picture']}[{link['text']}]({repository}/{kind}/main/{link['target']})"

    parts = (part if part.startswith("```") else LINK.sub(there, COMMENT.sub("", part)) for part in FENCE.split(readme))
    return re.sub(r"\n{3,}", "\n\n", "".join(parts))


def addresses(repository: str | None) -> dict[str, str]:
    """Links beside the page: those of the repository if there is one, and the paper."""
    own = {
        "Repository": f"{repository}",
        "Documentation": f"{repository}#documentation",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    return {**(own if repository else {}), "Tuned lens (paper)": "https://arxiv.org/abs/2303.08112"}
