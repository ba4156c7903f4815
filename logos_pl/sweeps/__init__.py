"""`logos-pl predict`: prompts read at every row by every lens, and what is written of them."""
