"""Checks that the chunks of a text are exact spans of it and leave nothing out."""

from spancheck.spans import Chunk, Gap, Mismatch, gaps, mismatches, problems

__all__ = ["Chunk", "Gap", "Mismatch", "gaps", "mismatches", "problems"]
