"""A process that registers and promotes versions, one after the other; with ``kill`` it dies in the middle of a copy.

Arguments: the registry's folder, a folder with weights, a number, and ``live`` or ``kill``.
"""

import os
import signal
import sys
from pathlib import Path

from llm_engineering.adapters import registry_folder
from llm_engineering.adapters.registry_folder import FolderRegistry
from llm_engineering.domain.registry import Lineage


def lineage(number: int) -> Lineage:
    return Lineage(
        base="base", base_digest="b", dataset="d", dataset_version=f"v{number}", document_ids=("d1",), prompt_version=1
    )


def main() -> None:
    root, folder, number, ending = sys.argv[1:]
    registry = FolderRegistry(Path(root))
    if ending == "kill":

        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        registry_folder.replace_file = die
    for turn in range(3):
        model = registry.register(Path(folder), name="ann", lineage=lineage(10 * int(number) + turn))
        registry.promote(model.reference)
        sys.stdout.write(f"{model.version}\n")


if __name__ == "__main__":
    main()
