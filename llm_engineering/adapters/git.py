"""Repositories through the git command: a shallow copy of what is committed, and nothing of it executed."""

import base64
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from llm_engineering.adapters.network_guard import Target, parse_target
from llm_engineering.domain.errors import FetchFailed

_MINIMUM = (2, 37)
"""The first git that can be told which address a host has (``http.curloptResolve``)."""

# Files arrive byte for byte: attributes of the repository would convert line ends or run filters.
_ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"

_PROBLEMS = (
    (r"could not read Username|Authentication failed|terminal prompts disabled|error: 40[13]", "login-required",
     "It is private or does not exist: set GITHUB_TOKEN for private repositories of github.com."),
    (r"not found|does not exist|error: 404|error: 410", "not-found", "Check the address."),
    (r"from redirection|error: 30\d", "moved", "Open it in a browser and give the address that it ends at."),
    (r"does not appear to be a git repository|not a git repository", "not-a-repository",
     "Name the folder that holds .git, or crawl it as a folder."),
    (r"dubious ownership", "ownership", "The folder belongs to another user."),
    (r"Could not resolve host", "dns", "Check the address and the network."),
    (r"Failed to connect|Connection|timed out|early EOF|RPC failed|Could not connect", "connection", "Try again later."),
    (r"SSL|certificate", "tls", "The server's certificate is not trusted."),
)  # fmt: skip


class GitRepositories:
    """The port :class:`~llm_engineering.domain.ports.Repositories` on the git command (2.37 or newer).

    ``addresses`` gives the permitted addresses of a URL's host or raises; git is pinned to them and follows no redirect.
    No hooks, filters, submodules, large files or credential helpers; no configuration, proxy or prompt of the user's;
    symbolic links become small files that hold their target. ``github_token`` goes to ``https://github.com`` alone and
    is never in an argument or a message. Problems are :class:`FetchFailed` with the reasons ``not-found``,
    ``login-required``, ``moved``, ``not-a-repository``, ``empty``, ``timeout``, ``no-git``, ``dns``, ``connection``, ``tls``,
    ``ownership`` or ``git``.
    """

    def __init__(
        self,
        addresses: Callable[[str], Sequence[str]],
        *,
        github_token: str | None = None,
        timeout: float = 600.0,
        program: str = "git",
    ) -> None:
        self._addresses = addresses
        self._token = github_token
        self._timeout = timeout
        self._program = program

    @contextmanager
    def checkout(self, url_or_path: str) -> Iterator[Path]:
        """See the port. The folder has the committed files of the default branch (of ``HEAD`` for a path) and no ``.git``."""
        program = self._located()
        with tempfile.TemporaryDirectory(prefix="twin-git-") as scratch:
            room = Path(scratch)
            if re.match("https?:", url_or_path, re.IGNORECASE):
                origin, config, protocols = self._remote(url_or_path)
            else:
                origin, config, protocols = _local(url_or_path)
            self._clone(program, room, origin, config, protocols)
            yield room / "files"

    def _remote(self, url: str) -> tuple[str, list[tuple[str, str]], str]:
        target = parse_target(url)
        addresses = self._addresses(target.url)
        config = [("http.followRedirects", "false"), ("http.proxy", ""), ("http.lowSpeedLimit", "1000")]
        config.append(("http.lowSpeedTime", "60"))
        if list(addresses) != [target.host]:  # not a numeric host
            config.append(
                ("http.curloptResolve", f"{target.host}:{target.port}:{','.join(map(_bracketed, addresses))}")
            )
        if certificates := os.environ.get("SSL_CERT_FILE"):
            config.append(("http.sslCAInfo", certificates))
        if self._token and target.origin == "https://github.com":
            secret = base64.b64encode(f"x-access-token:{self._token}".encode()).decode()
            config.append(("http.https://github.com/.extraHeader", f"Authorization: Basic {secret}"))
        return _without_query(target), config, "http:https"

    def _clone(self, program: str, room: Path, origin: str, config: Sequence[tuple[str, str]], protocols: str) -> None:
        template = room / "template" / "info"
        template.mkdir(parents=True)
        (template / "attributes").write_text(_ATTRIBUTES, encoding="utf-8")
        _write_config(room / "gitconfig", [*_CONFIG, *config])
        environment = _environment(room, protocols)
        options = ["--depth=1", "--single-branch", "--no-tags", "--no-recurse-submodules", "--quiet"]
        clone = [program, "clone", *options, f"--template={template.parent}", "--", origin, str(room / "files")]
        self._run(clone, environment, origin)
        head = [program, "-C", str(room / "files"), "rev-parse", "--verify", "--quiet", "HEAD^{commit}"]
        try:
            self._run(head, environment, origin)
        except FetchFailed as error:
            raise FetchFailed(f"The repository {origin} has no commits", reason="empty") from error
        shutil.rmtree(room / "files" / ".git")

    def _run(self, command: Sequence[str], environment: dict[str, str], origin: str) -> None:
        """Run git to its end or the end of its time; its own children end with it."""
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                _, output = process.communicate(timeout=self._timeout)
            except subprocess.TimeoutExpired as error:
                raise FetchFailed(
                    f"The repository {origin} was not copied within {self._timeout:g} s", reason="timeout"
                ) from error
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            raise self._problem(origin, output.decode("utf-8", "replace"))

    def _problem(self, origin: str, output: str) -> FetchFailed:
        lines = [line for line in output.splitlines() if line.strip()] or ["git gave no reason"]
        told = next((line for line in lines if line.startswith(("fatal:", "remote:", "error:"))), lines[-1])
        for pattern, reason, hint in _PROBLEMS:
            if re.search(pattern, output, re.IGNORECASE):
                return FetchFailed(f"The repository {origin} cannot be read: {told}", reason=reason, hint=hint)
        return FetchFailed(f"The repository {origin} cannot be read: {told}", reason="git")

    def _located(self) -> str:
        program = shutil.which(self._program)
        if program is None:
            raise FetchFailed(
                f"The command {self._program} was not found",
                reason="no-git",
                hint="Install git, or leave repositories out of the sources.",
            )
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
        version = tuple(int(part) for part in re.findall(r"\d+", said)[:2])
        if version < _MINIMUM:
            raise FetchFailed(
                f"{said.strip() or program} is too old", reason="no-git", hint="Repositories need git 2.37 or newer."
            )
        return program


_CONFIG = (
    ("core.hooksPath", os.devnull),
    ("core.symlinks", "false"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("credential.helper", ""),
    ("submodule.recurse", "false"),
    ("gc.auto", "0"),
)


def _local(path: str) -> tuple[str, list[tuple[str, str]], str]:
    """A folder is cloned as if from afar, so that only committed files come and nothing is linked to the original."""
    parts = urlsplit(path)
    if parts.scheme and parts.scheme != "file" and "://" in path:
        raise FetchFailed(
            f"{parts.scheme}: is no way to a repository", reason="scheme", hint="Give an https:// URL or a folder."
        )
    folder = Path(unquote(parts.path) if parts.scheme == "file" else path).expanduser()
    if not folder.is_dir():
        raise FetchFailed(
            f"{path!r} is no folder", reason="not-found", hint="Give an https:// URL or the folder of a repository."
        )
    folder = folder.resolve()
    if not (folder / ".git").exists() and not (folder / "objects").is_dir():
        raise FetchFailed(
            f"{folder} is not a git repository",
            reason="not-a-repository",
            hint="Name the folder that holds .git, or crawl it as a folder.",
        )
    # Who names a folder trusts it, also where it is mounted from another user.
    trusted = [("safe.directory", str(folder)), ("safe.directory", str(folder / ".git"))]
    return folder.as_uri(), trusted, "file"


def _environment(room: Path, protocols: str) -> dict[str, str]:
    """Nothing of the user's environment reaches git but where programs are."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
    return kept | {
        "HOME": str(room),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(room / "gitconfig"),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_ALLOW_PROTOCOL": protocols,
    }


def _write_config(file: Path, entries: Sequence[tuple[str, str]]) -> None:
    """A configuration file that its owner alone can read: arguments would show a token to every user of the machine."""
    file.touch(mode=0o600)
    lines = []
    for key, value in entries:
        section, _, rest = key.partition(".")
        subsection, _, name = rest.rpartition(".")
        lines.append(f'[{section} "{_quoted(subsection)}"]' if subsection else f"[{section}]")
        lines.append(f'\t{name} = "{_quoted(value)}"')
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _without_query(target: Target) -> str:
    """A repository's address as git wants it, without what a browser's address bar adds."""
    return target.url.partition("?")[0].rstrip("/")
