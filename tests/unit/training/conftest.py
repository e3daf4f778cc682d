"""One dataset, one base and one finished SFT stage for the whole session: what is trained once is looked at many times."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_engineering.training.report import TrainingReport
from tests.doubles.training import small_recipe, write_dataset


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """At these shapes a second thread only waits for the first."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> tuple[Path, TrainingReport]:
    """A finished SFT stage and its report; look, and copy before changing anything."""
    from llm_engineering.training.sft import sft

    out = tmp_path_factory.mktemp("trained")
    return out, sft(small_recipe(), dataset=dataset, out=out)


@pytest.fixture
def with_base(tmp_path: Path, trained: tuple[Path, TrainingReport]) -> Path:
    """A new run's folder in which the base stands already."""
    shutil.copytree(trained[0] / "base", tmp_path / "run" / "base")
    return tmp_path / "run"


@pytest.fixture
def with_sft(with_base: Path, trained: tuple[Path, TrainingReport]) -> Path:
    """A new run's folder in which base and SFT stage stand already."""
    shutil.copytree(trained[0] / "sft", with_base / "sft")
    return with_base


@pytest.fixture
def weights() -> Callable[[Path], dict[str, object]]:
    """Reads the adapter of a finished stage."""
    from safetensors.torch import load_file

    return lambda stage: load_file(stage / "adapter" / "adapter_model.safetensors")
