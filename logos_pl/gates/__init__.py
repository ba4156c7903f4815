"""`logos-pl test`: a lens judged on held-out prompts and text."""
