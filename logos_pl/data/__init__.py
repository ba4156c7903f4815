"""Text and prompts: reading, tokenising, packing and the LightningDataModules."""
