"""Rows in, verdicts and pictures out, no model."""
