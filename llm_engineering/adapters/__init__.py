"""One module per engine, named after it. Only ``bootstrap`` imports them."""
