"""LLM Twin: a model that writes like one person and answers from what that person wrote."""
