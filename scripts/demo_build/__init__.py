"""The parts of make_demo.py: facts, phrasings, documents, tokenizer, training, recall, card."""
