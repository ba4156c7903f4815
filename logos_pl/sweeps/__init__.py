"""Sweeps of prompts through every row and lens, and their output files: `logos-pl predict`."""
