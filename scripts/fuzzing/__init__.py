"""Malformed inputs of every kind that logos-pl reads, and checks of how commands handle them."""
