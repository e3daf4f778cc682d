"""The twin behind HTTP: REST with sources, the OpenAI dialect, feedback, and what operators look at."""
