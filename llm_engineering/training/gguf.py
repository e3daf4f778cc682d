"""GGUF files for llama.cpp and what is built on it, made by llama.cpp's own programs where they are installed."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from llm_engineering.domain.errors import TrainingError, UsageError

DIRECT = ("f32", "f16", "bf16", "q8_0")
"""Variants that the converter writes by itself."""
QUANTIZED = ("q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_0", "q4_k_s", "q4_k_m", "q5_0", "q5_k_s", "q5_k_m", "q6_k")
"""Variants that llama-quantize makes of the 16-bit file."""
VARIANTS = (*DIRECT, *QUANTIZED)
_CONVERTERS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf.py", "convert_hf_to_gguf")
_MAGIC = b"GGUF"


class Converter(NamedTuple):
    """The programs of llama.cpp."""

    convert: Path
    quantize: Path | None


def find_converter(variants: Sequence[str]) -> Converter:
    """The programs that these variants take, from PATH; :class:`UsageError` for an unknown variant or a missing program."""
    unknown = [variant for variant in variants if variant not in VARIANTS]
    if unknown:
        raise UsageError(f"No GGUF variant is called {unknown[0]}", hint=f"There are {', '.join(VARIANTS)}.")
    converters = (found for name in _CONVERTERS if (found := shutil.which(name)))
    convert, quantize = next(converters, None), shutil.which("llama-quantize")
    if convert is None:
        raise UsageError(
            "GGUF takes llama.cpp's converter, and there is no convert_hf_to_gguf.py on PATH",
            hint="Get llama.cpp (pip install -r its requirements.txt), make the script executable and put it on PATH.",
        )
    if quantize is None and set(variants) & set(QUANTIZED):
        raise UsageError(
            f"The variant {next(v for v in variants if v in QUANTIZED)} takes llama-quantize, which is not on PATH",
            hint=f"Build llama.cpp, or take one of {', '.join(DIRECT)}.",
        )
    return Converter(Path(convert), Path(quantize) if quantize else None)


def write_gguf(model: Path, folder: Path, *, name: str, variants: Sequence[str], converter: Converter) -> list[Path]:
    """Write ``NAME-VARIANT.gguf`` for each variant; :class:`TrainingError` with the program's last words if one fails."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    source: Path | None = None
    for variant in variants:
        file = folder / f"{name}-{variant}.gguf"
        if variant in DIRECT:
            _convert(converter, model, file, variant)
        else:
            if source is None:
                source = folder / f".{name}-16.gguf"
                _convert(converter, model, source, "f16")
            _run([str(converter.quantize), str(source), str(file), variant.upper()], file)
        written.append(file)
    if source is not None:
        source.unlink()
    return written


def _convert(converter: Converter, model: Path, file: Path, variant: str) -> None:
    script = converter.convert
    # Its own first line may name another Python than the one that has its packages.
    program = [sys.executable, str(script)] if script.suffix == ".py" else [str(script)]
    _run([*program, str(model), "--outfile", str(file), "--outtype", variant], file)


def _run(command: Sequence[str], file: Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise TrainingError(f"{command[0]} cannot be started: {error.strerror}", hint="Install it again.") from error
    said = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    if done.returncode:
        raise TrainingError(
            f"{Path(command[1] if command[0] == sys.executable else command[0]).name} ended with {done.returncode}: "
            f"{said[-1].strip()[-300:] if said else 'it said nothing'}",
            hint="llama.cpp may not know this kind of model, or lacks a package: run it by hand to see more.",
        )
    if not _is_gguf(file):
        raise TrainingError(f"{command[0]} wrote no GGUF file to {file}", hint="Try another version of llama.cpp.")


def _is_gguf(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return content.read(len(_MAGIC)) == _MAGIC
