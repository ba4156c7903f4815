"""Figures as the bytes of a PNG file."""

import io

from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """Contents of a PNG file, the same for the same figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, metadata={"Software": None})
    return content.getvalue()
