"""What a user sets: typed groups of options, their bounds, and what every `auto` stands for."""
