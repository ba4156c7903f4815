"""`logos-pl fit` and `logos-pl prism`: how lenses are trained and written."""
