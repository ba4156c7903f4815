"""`logos-pl compare`: how far the readings of two lenses of one model differ."""
