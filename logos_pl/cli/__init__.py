"""All that a user types: commands, options, messages."""
