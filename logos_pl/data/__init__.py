"""Text as the lens trains on it: streams, packs and the LightningDataModule."""
