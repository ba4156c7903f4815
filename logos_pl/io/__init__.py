"""Files, untrusted text, and the terminal."""
