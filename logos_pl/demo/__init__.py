"""The bundled demo: a small trained model and its text; README.md beside this file is its card."""

from pathlib import Path

DEMO = "demo"
"""What the model is called in place of a Hub id or a folder."""
MODEL_DIR = Path(__file__).resolve().parent / "model"
TEXT_DIR = Path(__file__).resolve().parent / "text"
