"""Starters that are being made end as a whole, whatever ends their first process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_goes_on_when_the_first_one_is_ended(tmp_path: Path, number: signal.Signals):
    (tmp_path / "starter.py").write_text(STARTER)
    command = [sys.executable, str(tmp_path / "starter.py"), str(tmp_path / "models")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True)
    assert process.stdout
    try:
        assert process.stdout.readline().endswith(b": ready-made\n")
        assert process.stdout.readline().startswith(b"child ")
        process.send_signal(number)
        process.communicate(timeout=60)  # returns when nobody has standard output any more
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == (-number if number is signal.SIGKILL else 128 + number)
    left = list(tmp_path.glob("figment-starter-*"))
    assert not left or number is signal.SIGKILL


STARTER = """
import os, sys, time
from pathlib import Path
from export import starter

def make(*_):
    print("child", os.getpid(), flush=True)
    time.sleep(600)

starter._make = make
if __name__ == "__main__":
    starter.main(sys.argv[1:])
"""
