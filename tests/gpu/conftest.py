"""What only a CUDA GPU can prove. Without one every test here is skipped, with the reason."""

from pathlib import Path

import pytest

from tests.doubles.training import write_dataset


@pytest.fixture(scope="session", autouse=True)
def gpu():
    """The name of the GPU, or a skip."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU on this machine: QLoRA with paged 8-bit AdamW and bf16 is not proved here")
    return torch.cuda.get_device_name()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), train=10)
