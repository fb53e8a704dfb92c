"""What a test of zio.process has as a child: each argument is a step."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

for step in sys.argv[1:]:
    what, _, value = step.partition("=")
    match what:
        case "out":
            sys.stdout.write(value)
            sys.stdout.flush()
        case "err":
            sys.stderr.write(value)
            sys.stderr.flush()
        case "fill":  # so many characters to both
            for stream in (sys.stderr, sys.stdout):
                stream.write("x" * int(value))
                stream.flush()
        case "echo":
            sys.stdout.write(sys.stdin.read())
        case "line":
            sys.stdout.write(sys.stdin.readline())
            sys.stdout.flush()
        case "ignore":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "polite":  # says so when it gets SIGTERM
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(17))
        case "grandchild":  # which has our pipes
            subprocess.Popen(["sleep", value])
        case "sleep":
            time.sleep(float(value))
        case "exit":
            sys.exit(int(value))
