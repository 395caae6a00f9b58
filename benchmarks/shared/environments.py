"""An environment for each peer, because their dependencies do not fit beside each other or beside this project.

    peers/<name>/requirements.txt -> venv + pip -> .bench/environments/<name>/bin/python

Made when missing or when the requirements changed. Most peers take the interpreter that runs this; NVIDIA's wheel of
Triton brings a backend that embeds Python, which fails with interpreters built without a shared library: for it all
interpreters found are tried, those with a shared library first.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.shared.processes import Failed, run
from benchmarks.shared.workloads import HOME

PEERS = Path(__file__).parents[1] / "peers"
INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r")
INSTALL_S = 900
EMBEDS_PYTHON = {"pytriton"}
IS_SHARED = "import sysconfig; print(sysconfig.get_config_var('Py_ENABLE_SHARED'))"
MINORS = (12, 11, 10)
"""Versions 3.x of Python for which NVIDIA's wheel has a backend, the ones most likely found first."""


def environment(peer: str) -> str:
    """The Python of the peer's environment, made if needed. Raises: Failed."""
    requirements = PEERS / peer / "requirements.txt"
    home = HOME / "environments" / peer
    mark, python = home / "requirements.txt", home / "bin" / "python"
    if mark.is_file() and mark.read_bytes() == requirements.read_bytes() and python.exists():
        return str(python)
    reasons = []
    for interpreter in _interpreters(peer):
        shutil.rmtree(home, ignore_errors=True)
        print(f"{peer}: making its environment with {interpreter}", flush=True)
        try:
            run([interpreter, "-m", "venv", str(home)], timeout_s=INSTALL_S)
            run([str(python), *INSTALL, str(requirements)], timeout_s=INSTALL_S)
        except Failed as failure:
            reasons.append(f"{interpreter}: {failure}")
            continue
        shutil.copyfile(requirements, mark)
        return str(python)
    shutil.rmtree(home, ignore_errors=True)
    raise Failed(f"no environment of its own: {'; '.join(reasons) or 'no interpreter found'}")


def pins(peer: str) -> dict[str, str]:
    """The pinned packages of a peer."""
    lines = (PEERS / peer / "requirements.txt").read_text().split()
    return dict(line.split("==") for line in lines)


def _interpreters(peer: str) -> Iterator[str]:
    if peer not in EMBEDS_PYTHON:
        yield sys.executable
        return
    names = [f"/usr/bin/python3.{minor}" for minor in MINORS] + [f"python3.{minor}" for minor in MINORS]
    found = list(dict.fromkeys(path for name in names if (path := shutil.which(name))))
    yield from sorted(found, key=lambda path: not _is_shared(path))


def _is_shared(interpreter: str) -> bool:
    """Whether the interpreter was built with a shared library."""
    try:
        return run([interpreter, "-c", IS_SHARED]).strip() == "1"
    except Failed:
        return False
