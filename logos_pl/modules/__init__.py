"""Base class and callbacks common to the LightningModules of all commands."""
