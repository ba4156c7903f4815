"""A model's folder with something changed in it."""

import json
from pathlib import Path


def edit(folder: Path, file: str = "config.json", **changes: object) -> Path:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **changes}))
    return folder
