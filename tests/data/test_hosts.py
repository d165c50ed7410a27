"""Two hosts, as two processes: each makes its own rows, and they are the whole batch's."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def test_the_rows_of_two_hosts_are_the_batch():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__)
    environment = os.environ | {"PYTHONPATH": str(here.parents[2]), "no_proxy": "127.0.0.1"}
    command = [sys.executable, str(here.with_name("host_rows.py"))]
    hosts = [
        subprocess.Popen(
            [*command, str(number), str(port)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for number, process in enumerate(hosts):
        out, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert f"({number}, 2) ok" in out
