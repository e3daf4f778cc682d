"""From a finished run to the registry, and ZenML's model control plane beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from zenml import log_metadata, step
from zenml.client import Client
from zenml.enums import ModelStages

from llm_engineering import bootstrap
from llm_engineering.domain.registry import ModelStage, ModelVersion
from llm_engineering.settings import load_settings
from llm_engineering.training.keep import keep

_STAGES = {ModelStage.CURRENT: ModelStages.PRODUCTION, ModelStage.RETIRED: ModelStages.ARCHIVED}
"""What a stage is called there. A candidate has none: only one version may be in ``staging``."""


@step(enable_cache=False)
def register_model(
    run: str, name: str, evaluation: dict[str, float] | None = None, start: str | None = None
) -> Annotated[ModelVersion, "registered_model"]:
    """Export a finished stage behind the parity gate and keep it as a candidate; what was kept before is not kept twice."""
    settings = load_settings()
    home = bootstrap.prepare_home(settings)
    registry = bootstrap.open_registry(settings)
    version, report = keep(
        Path(run), name=name, registry=registry, work=home / "exports", evaluation=evaluation,
        start=Path(start) if start else None,
    )  # fmt: skip
    mirror(registry.versions(name))
    parity = {each.form: each.mean for each in report.parity.comparisons} if report else {}
    log_metadata(metadata={**_facts(version), "parity": parity, "new": report is not None}, infer_artifact=True)
    return version


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
