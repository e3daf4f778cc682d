"""Training data out of the warehouse: passages, instructions, gates, splits, and an honest account of them."""
