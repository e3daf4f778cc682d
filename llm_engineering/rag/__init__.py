"""RAG: from a question to passages and answers."""
