"""Files of an engine that maps mostly empty pages: copied with their holes, replaced atomically, synced to disk."""

import errno
import os
import shutil
from pathlib import Path

_BLOCK = 1 << 20


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder file by file with its holes and sync every file: a copy takes the space of the data, not of its length."""
    target.mkdir()
    for entry in sorted(source.iterdir()):
        if entry.is_dir():
            copy_folder(entry, target / entry.name)
        else:
            copy_file(entry, target / entry.name)
    sync_folder(target)


def copy_file(source: Path, target: Path) -> None:
    """Copy one file extent by extent, leaving its holes holes."""
    with source.open("rb") as reader, target.open("xb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        position = 0
        while (start := _next_data(reader.fileno(), position)) is not None:
            position = min(os.lseek(reader.fileno(), start, os.SEEK_HOLE), size)
            _copy_span(reader.fileno(), writer.fileno(), start, position)
        os.fsync(writer.fileno())
    shutil.copymode(source, target)


def _next_data(descriptor: int, position: int) -> int | None:
    try:
        return os.lseek(descriptor, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return None
        raise


def _copy_span(reader: int, writer: int, start: int, end: int) -> None:
    position = start
    while position < end:
        block = os.pread(reader, min(_BLOCK, end - position), position)
        if not block:
            return
        if block.count(0) != len(block):
            view = memoryview(block)
            written = 0
            while written < len(block):
                written += os.pwrite(writer, view[written:], position + written)
        position += len(block)


def replace_file(file: Path, content: bytes) -> None:
    """Write a small file atomically and durably: it has the old content or the new one, whatever happens."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    with unfinished.open("wb") as writer:
        writer.write(content)
        writer.flush()
        os.fsync(writer.fileno())
    unfinished.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
