"""The pool of servers: what is tried, in which order, what is learnt from the cluster, what is forgotten."""

from __future__ import annotations

import random

import pytest

from nats_zio.errors import AuthError, CredentialsError, OptionError
from nats_zio.servers import Server, parse_server, parse_servers
from nats_zio.session.pool import Entry, ServerPool
from tests.secrecy import secret


def pool_of(*urls: str, attempts: int | None = None, abort: bool = True, seed: int | None = None) -> ServerPool:
    return ServerPool(
        parse_servers(list(urls)),
        attempts=attempts,
        abort_on_auth_error=abort,
        shuffle=None if seed is None else random.Random(seed),
    )


def names(pool: ServerPool) -> str:
    return "".join(entry.server.host for entry in pool.round())


def entry(pool: ServerPool, host: str) -> Entry:
    return next(entry for entry in pool.round() if entry.server.host == host)


def test_the_order_is_the_users_where_it_is_not_shuffled() -> None:
    assert names(pool_of("c", "a", "b")) == "cab"


def test_shuffled_the_order_differs_from_seed_to_seed() -> None:
    assert len({names(pool_of(*"abcd", seed=seed)) for seed in range(20)}) > 5


def test_the_same_server_given_twice_is_one() -> None:
    assert names(pool_of("a", "b", "nats://a:4222")) == "ab"


def test_who_has_taken_us_is_tried_last() -> None:
    pool = pool_of("a", "b", "c")
    pool.succeeded(entry(pool, "a"), encrypted=False)
    assert names(pool) == "bca"


def test_who_has_failed_is_tried_last() -> None:
    pool = pool_of("a", "b", "c")
    pool.failed(entry(pool, "a"), OSError(), 0.0)
    assert names(pool) == "bca"


def test_a_server_is_dropped_after_so_many_failures_since_its_last_success() -> None:
    pool = pool_of("a", "b", attempts=2)
    a = entry(pool, "a")
    pool.failed(a, OSError(), 0.0)
    pool.succeeded(a, encrypted=False)
    pool.failed(a, OSError(), 0.0)
    assert a in pool
    pool.failed(a, OSError(), 0.0)
    assert names(pool) == "b"


@pytest.mark.parametrize("attempts", [None, -1])
def test_without_a_limit_no_server_is_dropped(attempts: int | None) -> None:
    pool = pool_of("a", attempts=attempts)
    for _ in range(1000):
        pool.failed(entry(pool, "a"), OSError(), 0.0)
    pool.drop_used_up()
    assert names(pool) == "a"


def test_no_attempts_at_all_leave_nothing_to_try() -> None:
    pool = pool_of("a", "b", attempts=0)
    pool.drop_used_up()
    assert not pool


def test_a_server_that_refuses_in_the_same_words_for_two_seconds_is_dropped() -> None:
    pool = pool_of("a", "b")
    a = entry(pool, "a")
    for moment in (0.0, 0.1, 1.9):  # a token that is rotated a second too late, say
        pool.failed(a, AuthError("Authorization Violation"), moment)
        assert a in pool
    pool.failed(a, AuthError("Authorization Violation"), 2.0)
    assert a not in pool


def test_that_its_time_ran_out_says_nothing_about_credentials() -> None:
    pool = pool_of("a")
    for moment in range(100):
        pool.failed(entry(pool, "a"), AuthError("Authentication Timeout"), float(moment))
    assert names(pool) == "a"


@pytest.mark.parametrize(
    "between", [OSError(), AuthError("User Authentication Expired"), CredentialsError("the file is missing")]
)
def test_something_else_in_between_is_not_twice_in_a_row(between: Exception) -> None:
    pool = pool_of("a", "b")
    a = entry(pool, "a")
    for moment, error in enumerate(
        (AuthError("Authorization Violation"), between, AuthError("Authorization Violation"))
    ):
        pool.failed(a, error, 2.0 * moment)
    assert a in pool


def test_a_success_in_between_is_not_twice_in_a_row() -> None:
    pool = pool_of("a", "b")
    a = entry(pool, "a")
    pool.failed(a, AuthError("Authorization Violation"), 0.0)
    pool.succeeded(a, encrypted=False)
    pool.failed(a, AuthError("Authorization Violation"), 2.0)
    assert a in pool


def test_refusals_do_not_count_where_that_is_switched_off() -> None:
    pool = pool_of("a", abort=False)
    for moment in range(10):
        pool.failed(entry(pool, "a"), AuthError("Authorization Violation"), float(moment))
    assert names(pool) == "a"


def test_replacing_forgets_the_others_and_remembers_how_it_went_with_those_that_stay() -> None:
    pool = pool_of("a", "b", attempts=2)
    pool.failed(entry(pool, "a"), OSError(), 0.0)
    pool.replace(parse_servers(["a", "c"]))
    assert names(pool) == "ac"
    pool.failed(entry(pool, "a"), OSError(), 0.0)
    assert names(pool) == "c"


def test_a_server_is_found_by_its_url_without_secrets() -> None:
    pool = pool_of(f"nats://ann:{secret()}@a", "b")
    assert pool.find("nats://a:4222").server.user == "ann"
    with pytest.raises(OptionError, match="none of the servers"):
        pool.find("nats://elsewhere:4222")


# Discovery.


def discover(pool: ServerPool, *addresses: str, by: str = "nats://a", encrypted: bool = False) -> list[str]:
    return pool.discover(addresses, parse_server(by), encrypted=encrypted)


def test_new_servers_join_and_known_ones_do_not_join_again() -> None:
    pool = pool_of("a", "b")
    assert discover(pool, "a:4222", "b:4222", "c:4222", "[::1]:4223") == ["nats://c:4222", "nats://[::1]:4223"]
    assert pool.discovered_urls == ["nats://c:4222", "nats://[::1]:4223"]
    assert discover(pool, "c:4222", "[::1]:4223") == []


def test_discovered_servers_that_are_gone_are_forgotten_and_the_users_own_never() -> None:
    pool = pool_of("a", "b")
    discover(pool, "c:4222", "d:4222")
    assert discover(pool, "d:4222", "e:4222") == ["nats://e:4222"]
    assert sorted(pool.urls) == ["nats://a:4222", "nats://b:4222", "nats://d:4222", "nats://e:4222"]


def test_the_connected_server_is_not_forgotten_though_the_cluster_does_not_name_it() -> None:
    pool = pool_of("a")
    discover(pool, "c:4222")
    c = entry(pool, "c").server
    pool.discover(["d:4222"], c, encrypted=False)
    assert sorted(pool.urls) == ["nats://a:4222", "nats://c:4222", "nats://d:4222"]


def test_the_same_word_again_changes_nothing_unless_a_server_was_dropped_since() -> None:
    pool = pool_of("a", attempts=1)
    assert discover(pool, "c:4222") == ["nats://c:4222"]
    assert discover(pool, "c:4222") == []
    pool.failed(entry(pool, "c"), OSError(), 0.0)
    assert pool.discovered_urls == []
    assert discover(pool, "c:4222") == ["nats://c:4222"]
    pool.replace(parse_servers("b"))
    assert discover(pool, "c:4222") == ["nats://c:4222"]


def test_no_address_at_all_changes_nothing() -> None:
    pool = pool_of("a")
    discover(pool, "c:4222")
    assert discover(pool) == []
    assert pool.discovered_urls == ["nats://c:4222"]


def test_the_connected_server_stays_the_last_to_be_tried() -> None:
    pool = pool_of("a", seed=1)
    pool.succeeded(entry(pool, "a"), encrypted=False)
    discover(pool, *(f"s{number}:4222" for number in range(9)))
    assert pool.urls[-1] == "nats://a:4222"


def test_discovered_servers_are_shuffled_unless_that_is_switched_off() -> None:
    addresses = [f"s{number}:4222" for number in range(9)]
    assert len({tuple(p.urls) for p in (pool_of("a", seed=seed) for seed in range(5)) if discover(p, *addresses)}) > 3
    pool = pool_of("a")
    discover(pool, *addresses)
    assert pool.urls == [*(f"nats://{address}" for address in addresses), "nats://a:4222"]


@pytest.mark.parametrize(
    "address", ["", ":", "nohost:port", "c:99999", "c:4222/path", "user:pw@", "nats://c:1:2", "[::1"]
)
def test_what_is_no_address_is_passed_over(address: str) -> None:
    pool = pool_of("a")
    assert discover(pool, address, "good:4222") == ["nats://good:4222"]


def found(by: Server | str, address: str, *, encrypted: bool) -> Server:
    connected = parse_server(by) if isinstance(by, str) else by
    pool = ServerPool([connected], attempts=None, abort_on_auth_error=True, shuffle=None)
    pool.discover([address], connected, encrypted=encrypted)
    return next(entry.server for entry in pool.round() if entry.discovered)


def test_credentials_of_the_url_go_along() -> None:
    password, token = secret(), secret()
    server = found(f"nats://ann:{password}@a", "c:4222", encrypted=False)
    assert (server.user, server.password) == ("ann", password)
    assert found(f"nats://{token}@a", "c:4222", encrypted=False).token == token


def test_what_was_told_encrypted_is_never_told_in_clear() -> None:
    assert found(f"nats://ann:{secret()}@a", "c:4222", encrypted=True).scheme == "tls"
    assert found(f"nats://ann:{secret()}@a", "c:4222", encrypted=False).scheme == "nats"
    assert found("tls://a", "c:4222", encrypted=True).scheme == "tls"


def test_a_number_goes_by_the_name_of_the_server_that_named_it() -> None:
    assert found("tls://name", "10.0.0.1:4222", encrypted=True).tls_name == "name"
    assert found("tls://name", "other:4222", encrypted=True).tls_name is None
    assert found("tls://10.0.0.2", "10.0.0.1:4222", encrypted=True).tls_name is None
    first = found("tls://name", "10.0.0.1:4222", encrypted=True)
    assert found(first, "10.0.0.3:4222", encrypted=True).tls_name == "name"
