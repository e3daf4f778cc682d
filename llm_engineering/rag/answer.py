"""From a question to a verified answer."""

from llm_engineering.rag.twin import Done, Event, Sources, Text, Twin

__all__ = ["Done", "Event", "Sources", "Text", "Twin"]
