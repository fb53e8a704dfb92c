"""A plain script that uses the background runtime and then ends in the way its argument says."""

import sys
import threading
import time

import zio

how = sys.argv[1]
begin = time.monotonic()


def cleanup_at_the_end() -> None:
    try:
        zio.sleep(3600)
    finally:
        with zio.shield():
            zio.sleep(0.01)
        print("finally ran", flush=True)


def never_ends() -> None:
    with zio.shield():
        zio.sleep(3600)


channel: zio.Channel[int] = zio.Channel(1)
channel.send(1)
runtime = zio.background()
runtime.call(runtime.on_close, lambda: print("closer ran", flush=True))
zio.spawn(cleanup_at_the_end)
runtime.call(zio.testing.wait_all_parked)

if how == "error":
    raise ValueError("the script's own")
if how == "exit":
    sys.exit(7)
if how == "thread job":
    print(zio.spawn(zio.to_thread, lambda: "job ran").join(), flush=True)
if how == "thread waits":
    # A daemon thread that waits for ever inside the runtime must not keep the process.
    threading.Thread(target=zio.Event().wait, daemon=True).start()
if how == "stubborn":
    zio.spawn(never_ends)
    runtime.call(zio.testing.wait_all_parked)
    zio._core.background_runtime.EXIT_TIMEOUT = 0.2
