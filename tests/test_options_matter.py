"""Each option of `connect` and `subscribe` has a test that fails when the option is ignored: shown by ignoring it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nats_zio

ROOT = Path(__file__).parent.parent

# The option, and the test that cannot pass without it.
WITNESSES = {
    "connect:name": "client/test_connect.py::test_the_server_knows_name_language_and_version_of_the_client[task]",
    "connect:user": "client/test_connect.py::test_user_and_password_may_be_options[task]",
    **{
        f"connect:{way}": f"client/test_options.py::test_who_we_are_is_said_in_connect[{way}]"
        for way in ("password", "token", "nkey_seed", "credentials", "auth")
    },
    "connect:tls": "client/test_options.py::test_tls_is_not_done_without",
    "connect:proxy": "client/test_proxy.py::test_every_scheme_but_unix_goes_through[nats]",
    "connect:ws_headers": "client/test_websocket.py::test_each_connection_has_the_headers_of_its_time",
    "connect:ws_compression": "client/test_websocket_compression.py::"
    "test_the_server_compresses_if_asked_to_and_so_do_we[True]",
    "connect:abort_on_auth_error": "client/test_first_connect.py::"
    "test_a_refusal_is_tried_again_too_and_twice_the_same_ends_it",
    "connect:connect_timeout": "client/test_options.py::test_connect_timeout_is_the_time_that_a_silent_server_has",
    "connect:request_timeout": "client/test_options.py::test_request_timeout_is_the_default_of_calls",
    "connect:ping_interval": "client/test_options.py::test_so_many_pings_may_be_unanswered[ping_interval]",
    "connect:max_outstanding_pings": "client/test_options.py::"
    "test_so_many_pings_may_be_unanswered[max_outstanding_pings]",
    "connect:run_callbacks": "client/test_background.py::test_handlers_run_on_threads_inside_zio_run_if_so_chosen",
    "connect:allow_reconnect": "client/test_options.py::test_without_allow_reconnect_a_lost_connection_is_the_end",
    "connect:max_reconnect_attempts": "client/test_servers.py::"
    "test_the_client_closes_when_every_server_has_failed_so_often",
    "connect:reconnect_wait": "client/test_servers.py::"
    "test_the_first_retry_is_at_once_and_the_next_rounds_wait_longer_each_time",
    "connect:reconnect_max_wait": "client/test_servers.py::"
    "test_the_first_retry_is_at_once_and_the_next_rounds_wait_longer_each_time",
    "connect:reconnect_jitter": "client/test_options.py::test_jitter_spreads_the_attempts",
    "connect:reconnect_delay": "client/test_servers.py::test_reconnect_delay_decides_how_long_to_wait",
    "connect:reconnect_buffer_size": "client/test_reconnect.py::"
    "test_a_reconnect_buffer_of_nothing_refuses_every_message[task]",
    "connect:retry_on_failed_connect": "client/test_first_connect.py::"
    "test_connect_returns_while_no_server_is_there_and_all_that_is_done_counts_once_there_is_one",
    "connect:lazy": "client/test_first_connect.py::test_a_lazy_client_opens_nothing_before_it_is_used",
    "connect:next_server": "client/test_servers.py::test_next_server_chooses_the_server_and_the_wait",
    "connect:ignore_discovered_servers": "client/test_servers.py::test_discovered_servers_are_ignored_if_so_chosen",
    "connect:on_event": "client/test_first_connect.py::test_on_event_is_called_with_every_event_in_order[task]",
    "connect:no_randomize": "client/test_servers.py::test_clients_spread_over_the_servers_unless_told_not_to",
    "connect:no_echo": "client/test_link.py::test_no_echo_keeps_own_messages_away[task]",
    "connect:verbose": "client/test_options.py::test_verbose_has_the_server_confirm_each_command",
    "connect:pedantic": "client/test_options.py::test_pedantic_is_told_to_the_server",
    "connect:inbox_prefix": "client/test_request.py::test_inbox_prefix_is_used_for_replies_and_inboxes[task]",
    "connect:pending_msgs": "client/test_options.py::test_the_clients_limits_hold_for_its_subscriptions[pending_msgs]",
    "connect:pending_bytes": "client/test_options.py::"
    "test_the_clients_limits_hold_for_its_subscriptions[pending_bytes]",
    "connect:overflow": "client/test_options.py::test_the_clients_limits_hold_for_its_subscriptions[overflow]",
    "connect:skip_subject_validation": "client/test_publish.py::"
    "test_without_subject_validation_the_server_decides_what_a_subject_means[task-a..b]",
    "subscribe:confirm": "client/test_confirm.py::test_a_denied_one_raises_and_leaves_nothing[task-options0]",
    "subscribe:workers": "client/test_workers.py::test_so_many_handlers_run_at_once_and_no_more[task]",
    "subscribe:key": "client/test_workers.py::test_messages_of_one_key_are_handled_in_order_one_at_a_time[task]",
    "subscribe:queue": "client/test_subscribe.py::test_a_queue_group_shares_the_messages_among_its_members[task]",
    "subscribe:cb": "client/test_options.py::test_a_handler_gets_the_messages",
    "subscribe:max_msgs": "client/test_options.py::test_max_msgs_ends_a_subscription",
    "subscribe:pending_msgs": "client/test_options.py::test_a_subscription_has_limits_of_its_own[pending_msgs]",
    "subscribe:pending_bytes": "client/test_options.py::test_a_subscription_has_limits_of_its_own[pending_bytes]",
    "subscribe:overflow": "client/test_options.py::test_a_subscription_has_limits_of_its_own[overflow]",
}


def test_every_option_has_a_witness() -> None:
    options = {f"connect:{field.name}" for field in dataclasses.fields(nats_zio.Options)}
    options |= {
        f"subscribe:{name}"
        for name, parameter in inspect.signature(nats_zio.Client.subscribe).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert options == set(WITNESSES)


Ignore = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def ignore() -> Iterator[Ignore]:
    """Run tests with an option ignored: exit status of pytest, and its output."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.ignoring"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None

        def run(option: str, *arguments: str) -> tuple[int, str]:
            print(json.dumps([option, ["-q", "--timeout=25", *arguments]]), file=driver.stdin, flush=True)
            status, output = json.loads(driver.stdout.readline())  # type: ignore[union-attr]
            return status, output

        yield run
        driver.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("option", WITNESSES)
def test_ignored_it_is_missed(ignore: Ignore, option: str) -> None:
    status, output = ignore(option, f"tests/{WITNESSES[option]}")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "1 failed" in output, f"{option} was ignored and nobody missed it:\n{output}"


@pytest.mark.slow
def test_with_nothing_ignored_the_witnesses_are_content(ignore: Ignore) -> None:
    status, output = ignore("connect:", *sorted({f"tests/{test}" for test in WITNESSES.values()}))
    assert status == pytest.ExitCode.OK, output
