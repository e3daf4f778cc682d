"""From a finished run to what others can use: adapter, merged 16-bit weights, GGUF, a model card; behind the parity gate."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import StoreUnavailable, TrainingError, UsageError
from llm_engineering.domain.samples import Split
from llm_engineering.training.data import Example, read_examples
from llm_engineering.training.failures import is_full_disk, is_out_of_memory
from llm_engineering.training.folders import finished, unfinished
from llm_engineering.training.gguf import find_converter, write_gguf
from llm_engineering.training.hardware import let_go, letting_go
from llm_engineering.training.lineage import finished_run
from llm_engineering.training.loading import check_adapter
from llm_engineering.training.model_card import model_card
from llm_engineering.training.parity import Parity, Text, Tolerances, compare, continued, read
from llm_engineering.training.placement import Placement, compute_in_float32, find_placement, sixteen_bits
from llm_engineering.training.provenance import RECIPE, RECORD, Provenance, files_digest, folder_digest, revision_in
from llm_engineering.training.render import encoded, messages, render
from llm_engineering.training.run import ADAPTER
from llm_engineering.training.terminal import settle

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MERGED, GGUF, PARITY, CARD = "merged", "gguf", "parity.json", "README.md"
_WRITTEN = 48
"""Tokens that the adapter writes for each task."""
_TASKS = 8
_OWN_TASKS = (
    "Write a short note about what you did this week.",
    "Explain to a newcomer what you care about in your work.",
)
_log = logging.getLogger(__name__)


class ExportReport(Frozen):
    """What was released."""

    folder: str
    base: str
    parity: Parity
    bytes: dict[str, int]
    """By part."""

    def lines(self) -> Sequence[str]:
        """For a terminal."""
        parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in self.bytes.items())
        return (
            f"exported to {self.folder}: {parts}",
            f"parity over {self.parity.texts} texts (the adapter changes log-probabilities by {self.parity.effect:.3g}):",
            *(
                f"  {each.form}: {each.mean:.2g} in the mean, {each.largest:.2g} at most, "
                f"{each.other_choices} of {each.tokens} tokens are others"
                for each in self.parity.comparisons
            ),
        )


@letting_go()
def export(
    run: Path,
    out: Path,
    *,
    name: str | None = None,
    base: str | None = None,
    gguf: Sequence[str] = (),
    evaluation: Mapping[str, float] | None = None,
    tolerances: Tolerances | None = None,
) -> ExportReport:
    """Write ``adapter``, ``merged``, ``gguf`` and a model card of a finished run into ``out``, whole or not at all.

    The adapter is merged onto the base in full precision and saved in 16 bits. What was saved is loaded again; unless
    merged and loaded model say what the adapter says (:class:`ParityFailed`), nothing is released.
    ``base`` takes the place of the recorded one, which may have been moved: it must be the same base.
    """
    provenance = finished_run(run)
    converter = find_converter(gguf) if gguf else None
    if out.exists():
        raise UsageError(f"{out} exists already", hint="Name another folder, or remove that one.")
    place = _same_base(provenance, base or provenance.base)
    work = unfinished(out, anew=True)
    title = name or f"{run.parent.name}-{provenance.stage}"
    try:
        with _explained(out):
            parity = _merge(run, place, work, _examples(provenance), tolerances or Tolerances())
            shutil.copytree(run / ADAPTER, work / ADAPTER)
            if converter is not None:
                write_gguf(work / MERGED, work / GGUF, name=title, variants=gguf, converter=converter)
            for file in (RECIPE, RECORD):
                shutil.copy(run / file, work / file)
            (work / PARITY).write_text(parity.model_dump_json(indent=1) + "\n", encoding="utf-8")
            card = model_card(title, run=run, provenance=provenance, parity=parity, evaluation=evaluation or {})
            (work / CARD).write_text(card, encoding="utf-8")
            finished(out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return ExportReport(folder=str(out), base=place.name, parity=parity, bytes=sizes(out))


def describe(release: Path, *, name: str, run: Path, evaluation: Mapping[str, float]) -> None:
    """Write the model card of a release anew, with what its evaluation found."""
    card = model_card(name, run=run, provenance=finished_run(run), parity=read_parity(release), evaluation=evaluation)
    (release / CARD).write_text(card, encoding="utf-8")


def copy_release(folder: Path, out: Path, *, name: str, gguf: Sequence[str] = ()) -> dict[str, int]:
    """Copy a release (a registered version) to ``out``, with further GGUF variants of its merged model; sizes by part."""
    converter = find_converter(gguf) if gguf else None
    if out.exists():
        raise UsageError(f"{out} exists already", hint="Name another folder, or remove that one.")
    if gguf and not (folder / MERGED).is_dir():
        raise UsageError(f"{folder} holds no merged model to make GGUF of", hint="Export its run with --gguf instead.")
    work = unfinished(out, anew=True)
    try:
        with _explained(out):
            shutil.copytree(folder, work, dirs_exist_ok=True)
            if converter is not None:
                write_gguf(work / MERGED, work / GGUF, name=name, variants=gguf, converter=converter)
            finished(out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return sizes(out)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the parts of a release."""
    parts = [part for part in (ADAPTER, MERGED, GGUF) if (folder / part).is_dir()]
    return {part: sum(file.stat().st_size for file in (folder / part).rglob("*") if file.is_file()) for part in parts}


def read_parity(folder: Path) -> Parity:
    """What the gate found for a release."""
    return Parity.model_validate(json.loads((folder / PARITY).read_text(encoding="utf-8")))


class _Base(NamedTuple):
    """A folder, or a name with its revision."""

    name: str
    revision: str | None


def _merge(run: Path, base: _Base, work: Path, examples: Sequence[Example], tolerances: Tolerances) -> Parity:
    """Merge, save, load again, and compare; one model is in memory at a time."""
    from peft import PeftModel
    from transformers import AutoConfig, AutoTokenizer

    settle()
    with _readable(base):
        placed = find_placement(base.name, base.revision)
        plain = _loaded(base, placed)
    tokenizer = AutoTokenizer.from_pretrained(run / ADAPTER)
    check_adapter(run / ADAPTER, plain)
    model: Any = PeftModel.from_pretrained(plain, str(run / ADAPTER)).eval()

    texts = _texts(model, tokenizer, examples)
    expected = read(model, texts)
    with model.disable_adapter():
        effect = compare("base", texts, expected, read(model, texts), tolerances)
    limits = tolerances.beside(effect)
    model = model.merge_and_unload(safe_merge=True)
    comparisons = [compare("merged", texts, expected, read(model, texts), limits)]

    model.config.use_cache = True
    short = sixteen_bits(AutoConfig.from_pretrained(base.name, revision=base.revision))
    model.to(short).save_pretrained(work / MERGED)
    tokenizer.save_pretrained(work / MERGED)
    del model, plain
    let_go()
    again = _loaded(_Base(str(work / MERGED), None), placed)
    comparisons.append(compare("reloaded", texts, expected, read(again, texts), limits))
    parity = Parity(tolerances=limits, texts=len(texts), effect=effect.mean, comparisons=tuple(comparisons))
    parity.require(usual=tolerances)
    return parity


def _loaded(base: _Base, placed: Placement) -> Any:  # noqa: ANN401 - any model of transformers
    """The model, computing in float32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        base.name, revision=base.revision, dtype=placed.dtype, device_map={"": placed.device}
    )
    compute_in_float32(model)
    return model.eval()


def _texts(model: Any, tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example]) -> list[Text]:  # noqa: ANN401
    """What the gate reads: the adapter's own words for the tasks, and the author's."""
    asked = [example for example in examples if example.answer] or [Example(task, "", None) for task in _OWN_TASKS]
    rendered = [render(tokenizer, messages(each.instruction, author=each.author), each.answer) for each in asked]
    window = int(min(getattr(model.config, "max_position_embeddings", 1 << 30), tokenizer.model_max_length))
    prompts = [encoded(tokenizer, each.prompt)[-max(1, window - _WRITTEN) :] for each in rendered]
    texts = continued(model, prompts, tokens=_WRITTEN, end=int(tokenizer.eos_token_id))
    for each, prompt, answer in zip(asked, prompts, rendered, strict=True):
        if each.answer:
            texts.append(Text(prompt, encoded(tokenizer, answer.completion)[: window - len(prompt)], greedy=False))
    if not texts:
        raise TrainingError("The adapter writes nothing at all for any task", hint="Look at the curves of its run.")
    return texts


def _examples(provenance: Provenance) -> list[Example]:
    """Held-out tasks of the dataset with the author's answers; none where the dataset is gone."""
    try:
        return read_examples(Path(provenance.dataset), Split.VALIDATION)[:_TASKS]
    except UsageError as error:
        _log.info("The parity gate asks tasks of its own: %s", error.message)
        return []


def _same_base(provenance: Provenance, base: str) -> _Base:
    """The base, if it is the one that the run was trained on: by its name, or by its files."""
    revision = revision_in(provenance.base_digest, provenance.base)
    named = revision is not None
    if named and base == provenance.base:
        return _Base(base, provenance.base_commit or revision)
    if not Path(base).is_dir():
        raise UsageError(f"The base {base} is not there", hint="Name the folder where it lies now with --base.")
    known = provenance.base_files if named else provenance.base_digest
    if known is None:
        raise UsageError(
            f"Nobody knows whether {base} is the base that was trained on: the run noted no digest of the files of "
            f"{provenance.base}",
            hint="Export without --base.",
        )
    if (files_digest(Path(base)) if named else folder_digest(Path(base))) != known:
        raise UsageError(
            f"{base} is not the base that was trained on: its files have another digest",
            hint=f"The run was made on {provenance.base}.",
        )
    return _Base(base, None)


@contextmanager
def _readable(base: _Base) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        if is_full_disk(error):
            raise
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"The base {base.name} cannot be loaded: {said}",
            hint="Is there a network, and was its licence accepted (hf auth login)? Or name a folder that holds it with --base.",
        ) from error


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        if is_full_disk(error):
            raise StoreUnavailable(
                f"The disk is full: {out} could not be written", hint="Free some space; nothing half-written was kept."
            ) from error
        if is_out_of_memory(error):
            raise TrainingError(
                "There is not enough memory to merge", hint="Export on a machine with more, or on the CPU alone."
            ) from error
        raise
