"""``tools.train`` in processes that share a model by FSDP on the CPU, where accelerate would start it on GPUs alone."""

from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from tools.entry import main
from tools.train import app

_made = AcceleratorState.__init__


def _shared(state: AcceleratorState, *arguments: Any, fsdp_plugin: Any = None, **named: Any) -> None:
    """Several processes on the CPU are to it what several GPUs are."""
    _made(state, *arguments, fsdp_plugin=fsdp_plugin, **named)
    plugin = fsdp_plugin or getattr(state, "fsdp_plugin", None)  # made again it forgets
    if plugin is not None and state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, plugin
        if state._mixed_precision != "no":
            plugin.set_mixed_precision(state._mixed_precision)


if __name__ == "__main__":
    AcceleratorState.__init__ = _shared
    main(app)
