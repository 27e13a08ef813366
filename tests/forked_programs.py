# SPDX-License-Identifier: Apache-2.0
"""Programs in processes of their own that need not load TensorFlow, which takes seconds.

One process loads it, does nothing with it, and forks: its children are as new as a process can be.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

SERVER = """
import json, os, sys
import keras, tensorflow  # loaded, not used: this process forks

print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

# The child goes on to the end of the script, as a program does.
os.chdir(request["folder"])
null = os.open(os.devnull, os.O_RDONLY)
files = [os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("stdout", "stderr")]
for number, file in enumerate([null, *files]):
    os.dup2(file, number)
sys.argv = ["-c", *request["arguments"]]
sys.path[:0] = [""]
exec(compile(request["program"], "<string>", "exec"), {"__name__": "__main__"})
"""


class ProgramServer:
    """Runs one program after another."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read_line() == "ready"

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, program: str, *arguments: object, folder: Path, status: int = 0) -> str:
        """Runs a program in `folder`, which must end with `status`, -9 if killed; returns what it printed."""
        stdout, stderr = folder / ".stdout", folder / ".stderr"
        request = {
            "program": program,
            "arguments": list(map(str, arguments)),
            "folder": str(folder),
            "stdout": str(stdout),
            "stderr": str(stderr),
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        assert self._read_line() == str(status), stderr.read_text(encoding="utf-8")
        return stdout.read_text(encoding="utf-8")

    def _read_line(self) -> str:
        line = self._process.stdout.readline()
        assert line, "the server died"
        return line.strip()
