"""Thin ZenML wrappers around one function of a stage each."""
