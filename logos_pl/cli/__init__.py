"""Command line: commands, options and error messages."""
