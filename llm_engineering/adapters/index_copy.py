"""Move an index from one engine to another."""

from itertools import islice

from llm_engineering.adapters.index_session import RUN_FIRST
from llm_engineering.domain.errors import IndexMissing
from llm_engineering.domain.ports import Index

_BATCH = 512


def copy_index(source: Index, target: Index) -> int:
    """Fill ``target`` anew with everything visible in ``source``, vectors included; returns the number of chunks.

    Readers of the target keep its old state until the copy is whole. The caller passes the watermark on: its value
    under the source's ``watermark_name``, read before the copy began, belongs under the target's, read afterwards.
    Raises :class:`IndexMissing` if there is nothing to copy.
    """
    recipe = source.recipe()
    if recipe is None:
        raise IndexMissing(f"There is no index at {source.status().address} to copy", hint=RUN_FIRST)
    copied = 0
    with target.writer(recipe, rebuild=True) as writer:
        chunks = source.chunks()
        while batch := list(islice(chunks, _BATCH)):
            writer.publish(batch)
            copied += len(batch)
        writer.commit()
    return copied
