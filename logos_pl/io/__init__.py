"""Files, text of other people, and the terminal."""
