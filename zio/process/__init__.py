"""Child processes: waited for by the poller, ended with the task that runs them, and no SIGCHLD.

On Linux a process is waited for by its pidfd; where there is none, by a thread of its own. Only that one process is
ever asked about, so a program may have a SIGCHLD handler, and children of other kinds.
"""

from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError, CompletedProcess

from .popen import Options, Popen
from .running import run

__all__ = ["DEVNULL", "PIPE", "STDOUT", "CalledProcessError", "CompletedProcess", "Options", "Popen", "run"]
