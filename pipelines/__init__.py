"""ZenML graphs: which step follows which."""
