"""The words of the product: entities, errors, ports and the shapes of configuration. Pydantic and the standard library only."""
