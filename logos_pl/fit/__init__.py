"""Training and export of lenses: `logos-pl fit`, `logos-pl prism` and `logos-pl jacobian`."""
