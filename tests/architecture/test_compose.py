"""The servers' files speak the language of Settings, pin what they run, and hold no secret. Nothing is started here."""

import re
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest
import yaml
from dotenv import dotenv_values
from poethepoet.env.parse import parse_env_file

from llm_engineering.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {name.upper() for name in Settings.model_fields}
SECRETS = {"MONGO_USERNAME", "MONGO_PASSWORD", "INDEX_API_KEY"}
ONLY_SERVERS = {"VLLM_BASE", "VLLM_ADAPTER", "VLLM_CONTEXT"}
"""What only a server of the compose file reads."""
BESIDE = {
    "OPENAI_API_KEY", "CHROMIUM_PATH", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "ZENML_CONFIG_PATH",
    "TWIN_EXTRAS",
}  # fmt: skip
"""What libraries and the build of the image read, without being a setting."""
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
SERVERS = {name: service for name, service in SERVICES.items() if "profiles" not in service}
EXAMPLE = (ROOT / ".env.example").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OFFERED = re.compile(r"^(?:# )?([A-Z_]+)=(.*)$", re.MULTILINE)


def environment_with_every_line_of_the_example(tmp_path, monkeypatch):
    """The example with its commented lines taken in, and secrets filled in."""
    for name in SETTINGS | SECRETS:
        monkeypatch.delenv(name, raising=False)
    text = re.sub(r"^# (?=[A-Z_]+=)", "", EXAMPLE, flags=re.MULTILINE)
    for name in SECRETS:
        text = re.sub(rf"^{name}=$", f"{name}=s-{name.lower()}", text, flags=re.MULTILINE)
    file = tmp_path / ".env"
    file.write_text(text)
    return file


def variables(text):
    """Names of the variables that compose would put in, with what follows the name."""
    return re.findall(r"(?<!\$)\$\{([A-Z_]+)([^}]*)\}", text)


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_to_a_patch_version(name):
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_the_base_image_is_pinned_and_fits_the_project():
    [base] = re.findall(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim", base)


def test_the_qdrant_server_has_the_minor_version_of_the_client():
    assert SERVICES["qdrant"]["image"].split(":v")[1].split(".")[:2] == version("qdrant-client").split(".")[:2]


@pytest.mark.parametrize("name", SERVERS)
def test_each_server_has_a_health_check_and_comes_back(name):
    assert SERVERS[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVERS[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize(("answer", "healthy"), [(200, True), (503, False), (None, False)])
def test_qdrant_is_healthy_when_it_says_that_it_is_ready(answer, healthy):
    asked = []

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        _, bash, option, command = SERVICES["qdrant"]["healthcheck"]["test"]
        if answer is None:
            server.server_close()
        else:
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        command = command.replace("6333", str(server.server_address[1]))
        done = subprocess.run([bash, option, command], capture_output=True, timeout=30, check=False)
        if answer is not None:
            server.shutdown()
    assert (done.returncode == 0) is healthy
    assert asked == ([] if answer is None else ["/readyz"])


def test_the_key_file_is_made_once_and_is_private(tmp_path):
    bash, option, script = SERVICES["mongodb"]["entrypoint"]
    script = script.replace("$$", "$").replace("/data/configdb", str(tmp_path)).replace("exec ", "exec echo ")
    first, second = (subprocess.check_output([bash, option, script], text=True) for _ in range(2))
    key = tmp_path / "keyfile"
    assert first == second == f"docker-entrypoint.sh mongod --replSet rs0 --keyFile {key} --bind_ip_all\n"
    assert key.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[A-Za-z0-9+/]{6,1024}", key.read_text())
    before = key.read_bytes()
    subprocess.run([bash, option, script], check=True, capture_output=True)
    assert key.read_bytes() == before


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_data_lives_in_named_volumes(name):
    volumes = [volume for volume in SERVICES[name]["volumes"] if isinstance(volume, str)]
    sources = [volume.split(":")[0] for volume in volumes]
    assert [source for source in sources if not source.startswith("./")]
    assert {source for source in sources if not source.startswith("./")} <= COMPOSE["volumes"].keys()


def test_secrets_come_from_outside_and_have_no_default():
    given = [(name, rest) for name, rest in variables((ROOT / "docker-compose.yml").read_text()) if name in SECRETS]
    assert {name for name, _ in given} == SECRETS
    assert all(rest.startswith(":?") for _, rest in given)
    assert not re.search(
        r"^\s+\w*(PASSWORD|KEY|TOKEN)\w*: (?!\$\{)", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE
    )


def test_no_secret_is_written_in_the_example():
    secret = re.compile(r"PASSWORD|KEY|TOKEN|SECRET")
    assert all(not value for name, value in OFFERED.findall(EXAMPLE) if secret.search(name))


def test_every_variable_of_the_servers_is_explained_in_the_example():
    used = {name for name, _ in variables((ROOT / "docker-compose.yml").read_text())}
    assert used <= {name for name, _ in OFFERED.findall(EXAMPLE)}


def test_the_example_names_every_setting_and_nothing_unknown():
    offered = [name for name, _ in OFFERED.findall(EXAMPLE)]
    assert len(offered) == len(set(offered))
    assert set(offered) == SETTINGS | SECRETS | ONLY_SERVERS | BESIDE


def test_the_example_as_it_stands_changes_nothing(tmp_path, monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text(EXAMPLE)
    assert Settings(_env_file=tmp_path / ".env") == Settings(_env_file=None)


def test_the_addresses_of_the_example_are_those_of_the_servers(tmp_path, monkeypatch):
    settings = Settings(_env_file=environment_with_every_line_of_the_example(tmp_path, monkeypatch))
    assert settings.warehouse_url.startswith("mongodb://s-mongo_username:s-mongo_password@127.0.0.1:27017/")
    assert SERVICES["mongodb"]["ports"] == ["127.0.0.1:27017:27017"]
    assert settings.index_url == "http://127.0.0.1:6333"
    assert SERVICES["qdrant"]["ports"] == ["127.0.0.1:6333:6333"]
    assert settings.index_api_key.get_secret_value() == "s-index_api_key"


def test_settings_and_task_runner_read_the_example_alike(tmp_path, monkeypatch):
    file = environment_with_every_line_of_the_example(tmp_path, monkeypatch)
    assert parse_env_file(file.read_text()) == dotenv_values(file)


def vllm_said(tmp_path, **environment):
    """What the entry point of the vLLM service would start, with the registry in a folder of the test."""
    bash, option, script = SERVICES["vllm"]["entrypoint"]
    script = script.replace("$$", "$").replace("/models/", f"{tmp_path}/").replace("exec ", "exec echo ")
    given = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "VLLM_CONTEXT": "8192", **environment}
    return subprocess.run([bash, option, script], env=given, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("rank", "room"), [(4, 8), (16, 16), (48, 64)])
def test_vllm_serves_the_base_with_the_adapter_as_twin(tmp_path, rank, room):
    adapter = tmp_path / "me" / "1" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(f'{{"r": {rank}}}')
    done = vllm_said(tmp_path, VLLM_BASE="org/base", VLLM_ADAPTER="me/1/adapter")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"vllm serve org/base --enable-lora --lora-modules twin={adapter} --max-lora-rank {room} --max-model-len 8192 "
        "--host 0.0.0.0 --port 8000\n"
    )


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "set VLLM_BASE in .env"),
        ({"VLLM_BASE": "b"}, "set VLLM_ADAPTER in .env"),
        ({"VLLM_BASE": "b", "VLLM_ADAPTER": "me/9/adapter"}, "no adapter in models-registry/me/9/adapter"),
    ],
)
def test_vllm_without_its_adapter_says_so_and_stops(tmp_path, environment, words):
    done = vllm_said(tmp_path, **environment)
    assert done.returncode != 0
    assert words in done.stderr
    assert "vllm serve" not in done.stdout


def test_vllm_reads_the_registry_of_the_twin_and_needs_nothing_while_it_is_not_started():
    vllm = SERVICES["vllm"]
    [mounted] = [volume for volume in vllm["volumes"] if isinstance(volume, dict)]
    assert mounted == {
        "type": "bind", "source": "${TWIN_HOME:-./.twin}/models-registry", "target": "/models", "read_only": True,
    }  # fmt: skip
    with_defaults = [rest for name, rest in variables(yaml.safe_dump(vllm)) if rest.startswith(":-")]
    assert len(with_defaults) == len(variables(yaml.safe_dump(vllm))), "compose reads every service at every start"
    assert vllm["healthcheck"]["test"][0] == "CMD" and "/health" in vllm["healthcheck"]["test"][-1]
    assert "# LLM_BASE_URL=http://127.0.0.1:8001/v1" in EXAMPLE and vllm["ports"] == ["127.0.0.1:8001:8000"]


def test_the_replica_set_has_one_name_everywhere(tmp_path, monkeypatch):
    settings = Settings(_env_file=environment_with_every_line_of_the_example(tmp_path, monkeypatch))
    assert "replicaSet=rs0" in settings.warehouse_url
    assert "replicaSet=rs0" in SERVICES["twin"]["environment"]["WAREHOUSE_URL"]
    assert "--replSet rs0 " in SERVICES["mongodb"]["entrypoint"][-1]
    assert '_id: "rs0"' in SERVICES["mongodb"]["healthcheck"]["test"][-1]


def test_the_container_is_given_settings_only():
    assert SERVICES["twin"]["environment"].keys() <= SETTINGS
    assert re.search(r"\bTWIN_HOME=/data\b", DOCKERFILE)
    assert "twin-home:/data" in SERVICES["twin"]["volumes"]


def test_the_container_runs_what_exists_as_somebody_else_than_root():
    modules = re.findall(r'"-m", "([\w.]+)"', DOCKERFILE)
    assert modules == ["tools.warehouse", "tools.schedule"]
    assert all((ROOT / module.replace(".", "/")).with_suffix(".py").is_file() for module in modules)
    assert DOCKERFILE.index("\nUSER twin\n") < DOCKERFILE.index("\nCOPY ")


@pytest.mark.parametrize(("chosen", "installed"), [("", "."), ("otel,train", ".[otel,train]")])
def test_the_image_has_the_extras_that_are_asked_for(chosen, installed):
    [argument] = re.findall(r"-e (\".+\")$", DOCKERFILE, re.MULTILINE)
    said = subprocess.check_output(["sh", "-c", f"printf %s {argument}"], env={"TWIN_EXTRAS": chosen}, text=True)
    assert said == installed
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"otel", "train"} <= extras.keys()


def test_the_build_names_no_package_index():
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", DOCKERFILE)
    assert "-c constraints.txt" in DOCKERFILE
    assert f'"torch=={version("torch").split("+")[0]}"' in DOCKERFILE


def test_secrets_and_state_stay_out_of_the_image():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert not {"!.env", "!.git", "!.twin", "!.venv"} & set(lines)
