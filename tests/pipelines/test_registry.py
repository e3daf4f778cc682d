"""ZenML's model control plane beside the registry, for real."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
from zenml.client import Client
from llm_engineering.adapters.registry_folder import FolderRegistry
from llm_engineering.domain.registry import Lineage
from steps.registry import mirror

home = Path(sys.argv[1])
registry = FolderRegistry(home / "registry")

def shown():
    mirror(registry.versions("ann"))
    versions = Client().list_model_versions(model_name_or_id="ann", hydrate=True)
    facts = ("perplexity", "documents")
    told.append({each.name: [each.stage, *map(each.run_metadata.get, facts)] for each in versions})

told = []
for number in (1, 2):
    folder = home / str(number)
    folder.mkdir()
    (folder / "model.safetensors").write_text(str(number))
    lineage = Lineage(base="b", base_digest="b", dataset="d", dataset_version="v1", document_ids=("d1", "d2"), prompt_version=1)
    registry.register(folder, name="ann", lineage=lineage, metrics={"perplexity": 9.5})
registry.promote("ann@1")
shown()
registry.promote("ann@2")
shown()
shown()
registry.rollback("ann")
registry.retire("ann@2")
shown()
print(json.dumps(told))
"""


def test_versions_facts_and_stages_are_mirrored_and_doing_it_twice_changes_nothing(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ZENML", "TWIN_HOME", "COV"))},
        "ZENML_CONFIG_PATH": str(tmp_path / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "ERROR",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, third, last = json.loads(done.stdout.splitlines()[-1])
    assert first == {"v1": ["production", 9.5, 2], "v2": [None, 9.5, 2]}
    assert second == third == {"v1": ["archived", 9.5, 2], "v2": ["production", 9.5, 2]}
    assert last == {"v1": ["production", 9.5, 2], "v2": ["archived", 9.5, 2]}  # what the command line did in between
