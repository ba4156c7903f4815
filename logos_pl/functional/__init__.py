"""Pure functions of tensors: the mathematics of the lens, with torch and the standard library only."""
