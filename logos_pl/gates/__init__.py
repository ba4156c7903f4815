"""Evaluation of lenses against the acceptance gates: `logos-pl test`."""
