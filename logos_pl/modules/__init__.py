"""What the LightningModules of all commands share."""
