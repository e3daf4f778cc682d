"""ZenML's model control plane beside the registry: it shows what the registry says, and decides nothing."""

from collections.abc import Sequence
from typing import Any

from zenml import log_metadata
from zenml.client import Client
from zenml.enums import ModelStages

from llm_engineering.domain.registry import ModelStage, ModelVersion

_STAGES = {ModelStage.CURRENT: ModelStages.PRODUCTION, ModelStage.RETIRED: ModelStages.ARCHIVED}
"""What a stage is called there. A candidate has none: only one version may be in ``staging``."""


def mirror(versions: Sequence[ModelVersion]) -> None:
    """Bring ZenML's model control plane level with these versions of one name: versions, facts and stages."""
    client = Client()
    for version in versions:
        try:
            model = client.get_model(version.name)
        except KeyError:
            model = client.create_model(version.name, save_models_to_registry=False)
        name = f"v{version.version}"
        try:
            kept = client.get_model_version(model.id, name)
        except KeyError:
            kept = client.create_model_version(model.id, name=name)
            log_metadata(metadata=_facts(version), model_name=version.name, model_version=name)
        stage = _STAGES.get(version.stage)
        if stage is not None and kept.stage != stage.value:
            client.update_model_version(model.id, kept.id, stage=stage, force=True)


def _facts(version: ModelVersion) -> dict[str, Any]:
    lineage = version.lineage
    return {
        "reference": version.reference,
        "digest": version.digest,
        "base": lineage.base,
        "dataset": lineage.dataset,
        "dataset_version": lineage.dataset_version,
        "documents": len(lineage.document_ids),
        "trained": " + ".join(lineage.trained),
        **version.metrics,
    }
