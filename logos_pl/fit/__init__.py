"""Training and export of lenses: `logos-pl fit` and `logos-pl prism`."""
