"""A deadlock in a process that faulthandler watches over, with a thread of its own."""

import faulthandler

import zio

faulthandler.dump_traceback_later(50, exit=True)
try:
    zio.run(lambda: zio.Event().wait())
except zio.Deadlock:
    print("deadlock")
