"""What the help says of an option stands in the docstring of its class."""

import dataclasses
import inspect
import re


def unexplained(kind: type) -> set[str]:
    """Options of a group that no docstring of it or of its parts explains."""
    explained = {
        name
        for part in kind.__mro__
        if dataclasses.is_dataclass(part)
        for name in re.findall(r"^ {4}(\w+): ", inspect.cleandoc(part.__dict__.get("__doc__") or ""), re.M)
    }
    return {field.name for field in dataclasses.fields(kind)} - explained
