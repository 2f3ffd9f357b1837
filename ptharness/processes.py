"""Child processes: a fresh interpreter that runs one function at the other end of a pipe.

Not `multiprocessing.Process`: its spawn runs the caller's main script again, which breaks
notebooks and scripts without an `if __name__` guard. A child here starts from
`python -m ptharness.processes`, shares nothing, writes what it prints into a log file, does
not see the terminal's Ctrl-C, and ends when its parent does.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from ptharness.errors import StoreError
from ptharness.importing import import_file


class Child:
    """A running child process. `function(connection, *arguments)` is what it runs.

    `plugin_files` are imported there first, so that what they define can be unpickled.
    """

    def __init__(
        self,
        function: Callable[..., None],
        arguments: Sequence[Any],
        *,
        log_file: Path,
        plugin_files: Sequence[Path] = (),
    ) -> None:
        ours, theirs = Pipe()
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            log = log_file.open("ab")
        except OSError as error:
            raise StoreError(
                f"{log_file}: cannot be written ({error.strerror}); give a folder that can be, "
                "with -o"
            ) from error
        # -P: what lies in the working folder is not imported in place of a library.
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ptharness.processes", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path),
                },
            )
        theirs.close()
        self.connection = ours
        self.log_file = log_file
        # A child that is dead already is found by whoever listens for its answer.
        with contextlib.suppress(OSError):
            self.connection.send([str(path) for path in plugin_files])
            self.connection.send_bytes(pickle.dumps((function, tuple(arguments))))

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self.process.poll() is None

    def how_it_ended(self) -> str:
        """A phrase for messages: its exit code or signal."""
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "closed its pipe and went on"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def stop(self, *, grace_s: float = 0.0) -> None:
        """End the process, after `grace_s` for a clean exit."""
        with contextlib.suppress(OSError):
            self.connection.close()
        if grace_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=grace_s)
        # The whole session: what it started must not outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    """Run what the parent sends, then exit; a closed pipe is a quiet end."""
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    connection: Connection[Any, Any] = Connection(descriptor)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        for path in connection.recv():
            import_file(Path(path))
        function, arguments = pickle.loads(connection.recv_bytes())
        function(connection, *arguments)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The parent has gone or has closed the pipe: there is nobody to tell.
        sys.exit(1)


if __name__ == "__main__":
    main()
