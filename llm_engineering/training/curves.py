"""The curves of a run: JSON lines while it goes on, TensorBoard beside them, and a picture at the end."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

LINES = "curves.jsonl"
PICTURE = "curves.png"
BOARD = "tensorboard"
_PANELS = ("loss", "learning_rate", "grad_norm", "rewards/accuracies", "rewards/margins")


class Curves:
    """Appends one line per logged step; opened again at a step, it drops what a killed run wrote beyond it."""

    def __init__(self, folder: Path, *, from_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / LINES
        kept = [line for line in read_curves(folder) if line["step"] <= from_step]
        self._path.write_text("".join(f"{json.dumps(line)}\n" for line in kept), encoding="utf-8")
        self._board = SummaryWriter(str(folder / BOARD), purge_step=from_step + 1)

    def __enter__(self) -> "Curves":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.close()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the numbers of one step."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps({'step': step, **values})}\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)


def read_curves(folder: Path) -> list[dict[str, float]]:
    """The kept lines in order; a line that a killed process left unfinished is not one."""
    path = folder / LINES
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def draw_curves(folder: Path, *, title: str) -> None:
    """Draw every curve that the run has into one picture, training and validation side by side."""
    from matplotlib.figure import Figure

    lines = read_curves(folder)
    panels = [name for name in _PANELS if any(name in line for line in lines)]
    figure = Figure(figsize=(4 * max(1, len(panels)), 3), layout="constrained")
    for place, name in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for key, label in ((name, "training"), (f"eval_{name}", "validation")):
            points = [(line["step"], line[key]) for line in lines if key in line]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, marker="." if label == "validation" else None)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(folder / PICTURE, dpi=110)
