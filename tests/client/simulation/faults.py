"""What goes wrong in a simulated run. All of it is mended by `Run.mend`, but for links that are half-open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import zio
from tests.client.simulation.member import Member
from tests.client.simulation.signals import strike, strike_a_call, strike_the_loop
from tests.client.simulation.terms import HOSTS, PORT, urls

if TYPE_CHECKING:
    from tests.client.simulation.newcomer import Newcomer
    from tests.client.simulation.run import Run

    Whom = Member | Newcomer

Fault = Callable[["Run", Any], object]
FAULTS: dict[str, Fault] = {}

NOWHERE = [f"nowhere{number}" for number in range(10)]  # hosts that INFO names, and where no server is


def fault(act: Fault) -> Fault:
    FAULTS[act.__name__.replace("_", " ")] = act
    return act


# The network.


@fault
def reset(run: Run, who: Whom) -> None:
    for connection in who.connections:
        connection.reset()


@fault
def reset_at_a_byte_sent(run: Run, who: Whom) -> None:
    for connection in who.connections:
        connection.up.reset_at(connection.up.delivered + 1 + run.random.randrange(300))
    act(who)


@fault
def reset_at_a_byte_received(run: Run, who: Whom) -> None:
    for connection in who.connections:
        connection.down.reset_at(connection.down.delivered + 1 + run.random.randrange(300))
    act(who)


@fault
def half_open(run: Run, who: Whom) -> None:
    for connection in who.connections:
        connection.vanish()
    zio.sleep(3)


@fault
def half_open_one_way(run: Run, who: Whom) -> None:
    for connection in who.connections:
        run.choose(connection.up, connection.down).vanish()
    zio.sleep(3)


@fault
def partition(run: Run, who: Whom) -> None:
    run.network.partition(who.name, run.choose(HOSTS, *HOSTS))


@fault
def long_partition(run: Run, who: Whom) -> None:
    """What it held back arrives at the server after the client has come back by another way."""
    run.network.partition(who.name, HOSTS)
    act(who)
    zio.sleep(2.5)


@fault
def refused(run: Run, who: Whom) -> None:
    for host in HOSTS:
        run.network.host(host).connects = "refuse"
    reset(run, who)


@fault
def black_hole(run: Run, who: Whom) -> None:
    for host in run.choose(HOSTS, HOSTS[:1]):
        run.network.host(host).connects = "drop"
    reset(run, who)


@fault
def slow_network(run: Run, who: Whom) -> None:
    run.network.change_links(latency=0.3)


@fault
def slow_handshake(run: Run, who: Whom) -> None:
    """Sometimes too slow."""
    for host in HOSTS:
        run.network.host(host).connect_delay = run.random.random()
    run.server.pong = run.random.random()
    reset(run, who)


@fault
def write_stalls(run: Run, who: Whom) -> None:
    for connection in who.connections:
        connection.up.allow(run.random.randrange(300))
    act(who)


@fault
def write_stalls_and_breaks(run: Run, who: Whom) -> None:
    write_stalls(run, who)
    zio.sleep(run.random.random())
    reset(run, who)


@fault
def read_stalls(run: Run, who: Whom) -> None:
    """The server's writes stop in the middle of something."""
    for connection in who.connections:
        connection.down.allow(run.random.randrange(300))
    act(who)


# The server.


@fault
def server_closes(run: Run, who: Whom) -> None:
    for client in run.serving(who):
        client.close()


@fault
def server_closes_in_the_middle(run: Run, who: Whom) -> None:
    for client in run.serving(who):
        client.close_after(run.random.randrange(200))
    act(who)


@fault
def server_half_closes(run: Run, who: Whom) -> None:
    for client in run.serving(who):
        client.half_close()


@fault
def server_killed(run: Run, who: Whom) -> None:
    run.server.kill()


@fault
def server_restarted(run: Run, who: Whom) -> None:
    """It is another one: new id, no memory of anybody."""
    run.server.stop()
    run.server.start()


@fault
def lame_duck(run: Run, who: Whom) -> None:
    run.lame = True
    run.server.lame_duck()
    zio.sleep(run.random.random())
    if run.random.random() < 0.5:
        run.server.stop()


@fault
def error_of_the_catalogue(run: Run, who: Whom) -> None:
    for client in run.serving(who):
        for _ in range(3):
            client.error(run.next_error())


@fault
def error_of_the_catalogue_and_end(run: Run, who: Whom) -> None:
    for client in run.serving(who):
        client.error(run.next_error(), close=True)


@fault
def storm_of_info(run: Run, who: Whom) -> None:
    for client in run.serving(who):
        known = [url.removeprefix("nats://") for url in urls(who.name)]
        for number in range(50):
            known.append(f"{NOWHERE[number % len(NOWHERE)]}:{PORT}")
            client.send(client.info_line(connect_urls=known[-6:] + known[:2], max_payload=run.choose(5000, 1 << 20)))


@fault
def nonsense(run: Run, who: Whom) -> None:
    for client in run.serving(who):
        client.send(run.choose(b"\x00\xff\r\n", b"MSG a 1 x\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"INFO {\r\n"))


@fault
def reads_nothing(run: Run, who: Whom) -> None:
    for client in run.serving(who):
        client.reading.clear()


@fault
def late_pongs(run: Run, who: Whom) -> None:
    run.server.pong = 3.0


@fault
def no_pongs(run: Run, who: Whom) -> None:
    run.server.pong = "drop"


@fault
def byte_by_byte(run: Run, who: Whom) -> None:
    run.server.split = 1
    run.server.info(anything="new")


@fault
def silent_at_the_greeting(run: Run, who: Whom) -> None:
    run.server.greeting = run.choose(b"", b"INFO {", b"INFO {}")
    reset(run, who)


@fault
def nonsense_at_the_greeting(run: Run, who: Whom) -> None:
    run.server.greeting = run.choose(
        b"INFO {\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"-ERR 'maximum connections exceeded'\r\n"
    )
    reset(run, who)


@fault
def forced_by_the_user(run: Run, who: Whom) -> None:
    if isinstance(who, Member) and not who.nc.is_closed:
        who.nc.force_reconnect()


@fault
def limit_lowered_by_reload(run: Run, who: Whom) -> None:
    """With or without a word to those who are connected."""
    run.lower_limit()
    if run.choose(True, False):
        run.server.info()
    act(who)


@fault
def limit_lowered_while_away(run: Run, who: Whom) -> None:
    """What was kept meanwhile is too large now."""
    refused(run, who)
    act(who)
    zio.sleep(run.random.random() * 0.2)
    run.lower_limit()
    for host in HOSTS:
        run.network.host(host).connects = "accept"
    zio.sleep(1)


@fault
def auth_service_away(run: Run, who: Whom) -> None:
    """For so short a time that no client believes it."""
    run.refuse(run.choose("Authorization Violation", "Authentication Timeout"))
    reset(run, who)


# The program around the client.


@fault
def handlers_that_raise(run: Run, who: Whom) -> None:
    run.handlers_raise = True
    for member in run.members:
        if not member.closing:
            zio.spawn(member.request)
            act(member)
    zio.sleep(run.random.random())


@fault
def signal_raises_in_the_loop(run: Run, who: Whom) -> None:
    for _ in range(5):
        strike_the_loop(run, strike)
        act(who)
        zio.sleep(run.random.random() * 0.05)


@fault
def signal_raises_amid_a_call(run: Run, who: Whom) -> None:
    for _ in range(5):
        strike_a_call(run, strike, run.random.randrange(5))
        act(who)
        zio.sleep(run.random.random() * 0.1)


@fault
def signal_handler_publishes(run: Run, who: Whom) -> None:
    """In the loop itself, and in the middle of a read or write."""
    publish = run.choose(*run.members).publish_in_handler
    for _ in range(5):
        strike_a_call(run, publish, run.random.randrange(5))
        strike_the_loop(run, publish)
        act(who)
        zio.sleep(run.random.random() * 0.1)


@fault
def signal_handler_wakes(run: Run, who: Whom) -> None:
    """It sets an event that a task waits for."""
    for number in range(5):
        event = zio.Event()
        waiting = zio.spawn(event.wait, name="waits for a signal handler")
        if number % 2:
            zio.pause()
        strike_the_loop(run, event.set)
        act(who)
        waiting.join(timeout=0.001)


def act(who: Whom) -> None:
    """Something for the fault to bite on; it may have to wait."""
    if isinstance(who, Member):
        zio.spawn(who.publish_apart)
