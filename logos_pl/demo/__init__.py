"""The bundled demo: a small trained model and its text."""
