"""The frozen language model: its anatomy, its residual stream, the device it runs on."""
