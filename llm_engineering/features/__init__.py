"""Features: from the warehouse to the index: clean, chunk, embed, publish, retire."""
