"""`logos-pl test`: evaluates lenses on held-out prompts and text."""
