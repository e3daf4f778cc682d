"""What a run writes to the terminal: a bar where somebody watches, plain lines elsewhere, and no warnings that tests disprove."""

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Trainer

_DISPROVED = ("Padding-free training is enabled", "You are using packing, but")
"""Packing by position ids is exact with sdpa attention as well: tests/unit/training/test_packing.py."""


def is_watched() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()


def settle() -> None:
    """Set the bars of the libraries by whether somebody watches, and drop what is known to be false."""
    import datasets
    from transformers.utils import logging as transformers_logging

    if not is_watched():
        datasets.disable_progress_bars()
        transformers_logging.disable_progress_bar()
    logging.getLogger("trl.trainer.sft_trainer").addFilter(_is_not_disproved)
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(
        logging.ERROR
    )  # an optional kernel that is not installed


def settle_trainer(trainer: "Trainer") -> None:
    """No printed dictionaries: the watch has lines of its own."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _is_not_disproved(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in _DISPROVED)
