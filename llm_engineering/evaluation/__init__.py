"""How good the twin is: retrieval and grounded answers against questions whose answering passages are known."""
