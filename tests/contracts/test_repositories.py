"""The port Repositories on the git command, with real repositories, over files and over HTTP."""

import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llm_engineering.adapters.git import GitRepositories
from llm_engineering.adapters.network_guard import NetworkGuard, parse_target
from llm_engineering.domain.errors import FetchFailed, FetchRefused, SourceError
from tests.doubles.web import Answer, LocalSite, redirect

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git command")

IDENTITY = {"GIT_AUTHOR_NAME": "Jo", "GIT_AUTHOR_EMAIL": "jo@example.org"}
IDENTITY |= {"GIT_COMMITTER_NAME": "Jo", "GIT_COMMITTER_EMAIL": "jo@example.org"}


def git(folder: Path, *arguments: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **IDENTITY}
    subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, env=environment)


def commit(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "state")


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "my nötes"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, {"README.md": b"# Notes\n", "src/a.py": b"print(1)\n"})
    return folder


def open_to(*allowed: str):
    guard = NetworkGuard(allowed)

    def addresses(url):
        target = parse_target(url)
        return guard.addresses(target.host, target.port)

    return addresses


@pytest.fixture
def repositories():
    return GitRepositories(open_to())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def problem_of(repositories, url_or_path):
    with pytest.raises(SourceError) as problem, repositories.checkout(url_or_path):
        pass
    return problem.value


@pytest.mark.parametrize("spelling", [str, Path.as_uri])
def test_a_local_repository_gives_what_is_committed(repository, repositories, spelling):
    (repository / "README.md").write_text("not committed")
    (repository / "new.md").write_text("not committed")
    with repositories.checkout(spelling(repository)) as folder:
        assert files_of(folder) == {"README.md": b"# Notes\n", "src/a.py": b"print(1)\n"}
    assert not folder.exists()


def test_bytes_are_not_touched_whatever_the_repository_asks_for(repository, repositories):
    files = {
        ".gitattributes": b"* text=auto eol=crlf\n*.id ident\n*.big filter=lfs\n*.u16 working-tree-encoding=UTF-16\n",
        "unix.txt": b"a\nb\n",
        "a.id": b"$Id$\n",
        "a.big": b"version https://git-lfs.github.com/spec/v1\n",
        "a.u16": "a\n".encode("utf-16"),
    }
    commit(repository, files)
    files["a.u16"] = b"a\n"  # what git has kept of it
    with repositories.checkout(str(repository)) as folder:
        assert files.items() <= files_of(folder).items()


def test_links_out_of_the_repository_lead_nowhere(repository, repositories, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (repository / "link.md").symlink_to(tmp_path / "secret")
    (repository / "up").symlink_to("..")
    commit(repository, {})
    with repositories.checkout(str(repository)) as folder:
        assert not any(path.is_symlink() for path in folder.rglob("*"))
        assert (folder / "link.md").read_bytes() == str(tmp_path / "secret").encode()


def test_no_hook_or_filter_of_a_repository_is_run(repository, repositories, tmp_path):
    marker = tmp_path / "marker"
    script = f"#!/bin/sh\ntouch '{marker}'\n"
    for hook in ["post-checkout", "post-index-change", "reference-transaction", "pre-upload"]:
        (repository / ".git" / "hooks" / hook).write_text(script)
        (repository / ".git" / "hooks" / hook).chmod(0o755)
    git(repository, "config", "filter.evil.smudge", f"touch {marker}; cat")
    git(repository, "config", "core.fsmonitor", f"touch {marker}")
    commit(repository, {".gitattributes": b"* filter=evil\n"})
    marker.unlink(missing_ok=True)  # the commit itself ran them
    with repositories.checkout(str(repository)):
        assert not marker.exists()


def test_submodules_are_not_brought_along(repository, repositories, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(repository, other)
    git(repository, "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(other), "inner")
    commit(repository, {})
    with repositories.checkout(str(repository)) as folder:
        assert list((folder / "inner").iterdir()) == []


def test_the_copy_is_shallow_and_leaves_the_original_alone(repository, repositories):
    commit(repository, {"README.md": b"# Notes, second edition\n"})
    before = files_of(repository)
    with repositories.checkout(str(repository)) as folder:
        (folder / "README.md").write_text("changed")
    assert files_of(repository) == before


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/does/not/exist", "not-found"),
        ("--upload-pack=touch /tmp/x", "not-found"),
        ("ext::sh -c id", "not-found"),
        ("git@github.com:jo/notes", "not-found"),
        ("ssh://git@github.com/jo/notes", "scheme"),
        ("git://github.com/jo/notes", "scheme"),
    ],
)
def test_what_is_no_repository_is_told_in_one_line(repositories, path, reason):
    problem = problem_of(repositories, path)
    assert problem.reason == reason
    assert problem.hint and "\n" not in str(problem)


def test_a_plain_folder_and_an_empty_repository_say_what_they_are(repositories, tmp_path):
    assert problem_of(repositories, str(tmp_path)).reason == "not-a-repository"
    git(tmp_path, "init", "--quiet")
    assert problem_of(repositories, str(tmp_path)).reason == "empty"


def test_a_machine_without_git_says_so(repository):
    assert problem_of(GitRepositories(open_to(), program="git-of-nowhere"), str(repository)).reason == "no-git"


def test_an_old_git_is_refused_because_it_cannot_be_pinned(repository, tmp_path):
    program = tmp_path / "old-git"
    program.write_text("#!/bin/sh\necho git version 2.36.9\n")
    program.chmod(0o755)
    assert "2.37" in str(problem_of(GitRepositories(open_to(), program=str(program)), str(repository)))


def test_a_copy_that_takes_too_long_is_ended_with_its_children(repository, tmp_path):
    program = tmp_path / "slow-git"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && exec git --version\nsleep 1000 & wait\n')
    program.chmod(0o755)
    slow = GitRepositories(open_to(), program=str(program), timeout=0.5)
    assert problem_of(slow, str(repository)).reason == "timeout"


# Over HTTP, with git's own server program


@pytest.fixture
def server(repository):
    """Serves the repository at /notes.git and /private.git, the latter to whoever sends any credentials."""

    def backend(request):
        parts = urlsplit(request.path)
        if parts.path.startswith("/private.git") and "authorization" not in request.headers:
            return Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(repository),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": "/.git/" + parts.path.split("/", 2)[2],
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=request.body, env=environment, capture_output=True, check=True
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return Answer(body, status=int(headers.pop("Status", "200")[:3]), content_type=None, headers=headers)

    tails = ["info/refs?service=git-upload-pack", "git-upload-pack"]
    routes = {f"/{name}.git/{tail}": backend for name in ["notes", "private"] for tail in tails}
    with LocalSite(routes) as site:
        yield site


def test_a_repository_comes_over_http(server):
    with GitRepositories(open_to(server.host)).checkout(server.at("/notes.git/?tab=readme#top")) as folder:
        assert files_of(folder) == {"README.md": b"# Notes\n", "src/a.py": b"print(1)\n"}


def test_git_contacts_the_address_that_was_checked(server):
    """Nobody else knows this name: an answer proves that git did not resolve it again."""
    pinned = GitRepositories(lambda url: ["127.0.0.1"])
    with pinned.checkout(f"http://only-here.invalid:{server.port}/notes.git") as folder:
        assert (folder / "README.md").exists()


def test_a_host_that_may_not_be_contacted_is_refused_before_git_starts(server):
    refused = problem_of(GitRepositories(open_to()), server.at("/notes.git"))
    assert isinstance(refused, FetchRefused) and refused.reason == "private-address"
    assert server.requests == []


def test_a_redirect_is_told_instead_of_followed(server):
    with LocalSite(
        {"/old.git/info/refs": redirect(server.at("/notes.git/info/refs?service=git-upload-pack"), 301)}
    ) as site:
        moved = problem_of(GitRepositories(open_to(site.host)), site.at("/old.git"))
    assert (moved.reason, server.requests) == ("moved", [])


@pytest.mark.parametrize(("path", "reason"), [("/private.git", "login-required"), ("/none.git", "not-found")])
def test_missing_and_private_repositories_are_told_apart(server, path, reason):
    problem = problem_of(GitRepositories(open_to(server.host)), server.at(path))
    assert isinstance(problem, FetchFailed) and problem.reason == reason


def test_the_token_goes_to_github_alone_and_into_no_argument_or_message(server, tmp_path):
    program = tmp_path / "spy-git"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\nenv >> {tmp_path}/arguments\nexec git "$@"\n')
    program.chmod(0o755)
    spied = GitRepositories(lambda url: ["127.0.0.1"], github_token="sesame", program=str(program))
    problem_of(spied, server.at("/private.git"))
    failed = problem_of(spied, "https://github.com/jo/notes")  # pinned to this machine, where no https is
    assert not any("authorization" in request.headers for request in server.requests)
    assert "sesame" not in (tmp_path / "arguments").read_text() + str(failed)


@pytest.mark.parametrize(
    ("url", "sent"), [("https://github.com/jo/n", True), ("https://github.com.evil.org/jo/n", False)]
)
def test_the_token_is_written_for_github_only(url, sent):
    _, config, _ = GitRepositories(lambda url: ["1.1.1.1"], github_token="sesame")._remote(url)
    assert any("Authorization" in value for _, value in config) is sent
