"""Malformed inputs of every kind that logos-pl reads, what each does to a command, and whether that is as promised."""
