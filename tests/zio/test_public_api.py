"""What other programs may rely on: the names, their arguments, and that all of it is typed."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import pkgutil
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

import zio

PACKAGES = ["zio", "zio.debug", "zio.fs", "zio.lowlevel", "zio.net", "zio.process", "zio.sync", "zio.testing"]

# The agreed names, with the arguments that programs pass. More arguments may be added, with defaults.
AGREED = """
run(fn, *args)
spawn(fn, *args, name)
Task.join(timeout)
Task.cancel()
sleep(seconds)
pause()
maybe_pause()
now()
current_task()
TaskGroup(limit)
TaskGroup.spawn(fn, *args, name)
TaskGroup.start(fn, *args)
TaskGroup.cancel()
timeout(seconds)
move_on_after(seconds)
shield(timeout)
CancelScope()
Channel(capacity)
Channel.send(item, timeout)
Channel.recv(timeout)
Channel.try_send(item)
Channel.try_recv()
Channel.send_op(item)
Channel.close(drain)
Channel.__iter__()
Channel.__len__()
Broadcast(capacity)
Broadcast.subscribe()
Broadcast.send(item)
Broadcast.close()
select(*sources, timeout, priority, **named)
after(seconds)
Lock.acquire(timeout)
Lock.release()
RLock.acquire(timeout)
RLock.release()
RWLock.read()
RWLock.write()
Condition.wait(timeout)
Condition.wait_for(predicate, timeout)
Condition.notify(n)
Condition.notify_all()
Semaphore.acquire(timeout)
Semaphore.release()
Event.set()
Event.clear()
Event.is_set()
Event.wait(timeout)
Notify.wait(timeout)
Notify.notify(n)
Notify.notify_all()
Barrier.wait(timeout)
Future.set_result(value)
Future.set_exception(error)
Future.result(timeout)
to_thread(fn, *args, abandon_on_cancel)
from_thread(fn, *args)
Runtime(on_unhandled, network, seed)
Runtime.run(fn, *args)
Runtime.call(fn, *args)
Runtime.close()
background()
map(fn, items, limit)
signals(*numbers)
net.connect(host, port, tls, timeout)
net.connect_unix(path)
net.listen(host, port)
net.listen_unix(path)
net.udp()
net.resolve(host, port)
net.Listener.accept()
net.Listener.serve(handler)
net.Stream.recv(n)
net.Stream.recv_into(buffer)
net.Stream.recv_exactly(n)
net.Stream.recv_until(separator, max_bytes)
net.Stream.send_all(data)
net.Stream.send_vectored(parts)
net.Stream.start_tls(context, server_hostname)
net.Stream.shutdown_write()
net.Stream.close()
fs.open()
fs.read_bytes()
fs.write_bytes()
fs.Path()
fs.atomic_write()
process.run()
process.Popen()
debug.dump()
debug.Watchdog()
testing.VirtualClock()
testing.run_virtual(fn, seed)
testing.wait_all_parked()
testing.Sequencer()
testing.memory_stream_pair()
testing.check_stream(make_pair)
testing.SimNetwork()
"""


def found(path: str) -> Any:
    thing: Any = zio
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


@pytest.mark.parametrize("line", AGREED.split("\n")[1:-1])
def test_an_agreed_name_is_there_with_its_arguments(line: str) -> None:
    path, _, arguments = line.rstrip(")").partition("(")
    wanted = [argument for argument in arguments.split(", ") if argument]
    parameters = inspect.signature(found(path)).parameters
    prefix: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    has = [prefix.get(parameter.kind, "") + name for name, parameter in parameters.items()]
    assert [argument for argument in wanted if argument not in has] == []
    # A call with these works: whatever else there is has a default.
    others = [parameter for name, parameter in parameters.items() if name not in [*wanted, "self"] and arguments]
    assert [str(other) for other in others if other.default is other.empty and other.kind not in prefix] == []


EXCEPTIONS = (
    "ChannelClosed WouldBlock Deadlock WrongLoop Busy BlockingNotAllowed RuntimeClosed ForkedError Closed Lagged"
)


@pytest.mark.parametrize("name", EXCEPTIONS.split())
def test_errors_are_exceptions(name: str) -> None:
    assert issubclass(getattr(zio, name), Exception)


def test_cancelled_is_no_exception_that_programs_catch_by_accident() -> None:
    assert issubclass(zio.Cancelled, BaseException)
    assert not issubclass(zio.Cancelled, Exception)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_that_are_exported_exist_and_are_named_once(package: str) -> None:
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_what_looks_public_in_zio_is_exported() -> None:
    """A name without an underscore, of ours, and not in __all__ is a promise that nobody meant to make."""
    stray = [
        name
        for name, value in vars(zio).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and getattr(value, "__module__", "").startswith("zio.")
        and name not in zio.__all__
    ]
    assert stray == []


def test_star_import_brings_what_is_exported() -> None:
    namespace: dict[str, Any] = {}
    exec("from zio import *", namespace)
    assert set(zio.__all__) <= set(namespace)


# Types.


def test_the_packages_say_that_they_are_typed() -> None:
    for package in ("zio", "nats_zio"):
        assert importlib.resources.files(package).joinpath("py.typed").is_file()


SPECIAL = {"__init__", "__enter__", "__exit__", "__iter__", "__next__", "__call__"}


def functions() -> Iterator[tuple[str, Any]]:
    """Every public function and method of ours, wherever it is defined."""
    for info in pkgutil.walk_packages(zio.__path__, "zio."):
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != info.name or name.startswith("_"):
                continue
            if inspect.isfunction(thing):
                yield f"{info.name}.{name}", thing
            elif inspect.isclass(thing):
                for key, member in vars(thing).items():
                    if key.startswith("_") and key not in SPECIAL:
                        continue
                    member_function = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
                    if inspect.isfunction(member_function) and member_function.__module__ == info.name:
                        yield f"{info.name}.{name}.{key}", member_function


def test_every_public_function_is_typed_in_full() -> None:
    missing = []
    checked = 0
    for path, function in functions():
        if function.__code__.co_filename.startswith("<"):
            continue  # written by dataclass
        checked += 1
        signature = inspect.signature(function)
        if signature.return_annotation is signature.empty:
            missing.append(f"{path}: what it returns")
        for index, (name, parameter) in enumerate(signature.parameters.items()):
            is_self = index == 0 and name in {"self", "cls"}
            if parameter.annotation is parameter.empty and not is_self:
                missing.append(f"{path}: {name}")
    assert missing == []
    assert checked > 400


def test_every_public_function_of_the_packages_has_a_docstring() -> None:
    undocumented = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            thing = getattr(module, name)
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and not inspect.getdoc(thing):
                undocumented.append(f"{package}.{name}")
    assert undocumented == []


def test_importing_zio_loads_neither_nats_zio_nor_what_only_some_programs_need() -> None:
    unwanted = "{'nats_zio', 'ssl', 'asyncio', 'subprocess', 'zio.testing'}"
    code = f"import sys, zio; print({unwanted} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "none\n"
