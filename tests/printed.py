"""A table as it is printed in 80 columns."""

import io

from rich.console import Console
from rich.table import Table


def printed(table: Table) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
