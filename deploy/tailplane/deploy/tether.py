"""Start a child process that ends when its parent does, however the parent ends.

Used for every child of the local cluster. The child runs in a session of its own, so that Ctrl-C in the terminal
reaches only the parent, which then stops its children in the right order. A `kill -9` of the parent is the other
case: a watcher (a `sh` that waits on a pipe whose other end only the parent holds) sees it close and sends SIGTERM.

Not PR_SET_PDEATHSIG: that fires when the *thread* that started the child ends, exists on Linux only, and needs
code between fork and exec. POSIX only, like the embedded server.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

# The child's stdin is the pipe at first. `$$` is the shell's own pid, which `exec` hands to the program. A newline in
# the pipe releases the watcher; the end of the pipe without one means that the parent is gone.
_SHIM = """
exec 3<&0 </dev/null
{ read -r _ <&3 || kill -TERM $$; } >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"""


class TetheredProcess:
    """A child process and the pipe that its life hangs on."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        output: int | IO[bytes] | None = None,
    ) -> None:
        """Start `command`; `output` takes its stdout and stderr (None: the parent's own)."""
        self.command = tuple(command)
        read_end, self._write_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SHIM, "sh", *command],
                stdin=read_end,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._write_end)
            raise
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes] | None:
        """The child's output, if `output` was `subprocess.PIPE`."""
        return self._process.stdout

    def poll(self) -> int | None:
        """Return the exit code (negative for a signal), None while the child lives."""
        returncode = self._process.poll()
        if returncode is not None:
            self._release()
        return returncode

    def wait(self, timeout: float | None) -> int | None:
        """Wait up to `timeout` seconds (None: without end); return the exit code, or None if the child still lives."""
        try:
            returncode = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self._release()
        return returncode

    def terminate(self) -> None:
        """Send SIGTERM; nothing happens if the child has ended."""
        self._process.terminate()

    def stop(self, grace: float) -> int:
        """Send SIGTERM, and SIGKILL to a child that still lives `grace` seconds later; return its exit code."""
        if self.poll() is None:
            self._process.terminate()
            if self.wait(grace) is None:
                self._process.kill()
        return self.kill()

    def kill(self) -> int:
        """Send SIGKILL and wait; return the exit code. Nothing is sent to a child that has ended."""
        if self.poll() is None:
            self._process.kill()
        returncode = self._process.wait()
        self._release()
        return returncode

    def _release(self) -> None:
        # After the child was waited for, its pid may belong to somebody else: the watcher must not signal it any more.
        if self._write_end < 0:
            return
        try:
            os.write(self._write_end, b"\n")
        except BrokenPipeError:
            pass  # the watcher has ended
        finally:
            os.close(self._write_end)
            self._write_end = -1
