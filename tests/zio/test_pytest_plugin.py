"""The pytest plugin: a marked test of a user's runs inside a runtime, in real or virtual time."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]
PLUGIN = "nats_zio.testing.zio_plugin"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Runs a test file of a user's, in a process of its own, with no plugin but this one."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("PYTEST_ADDOPTS", "ZIO_SCHED_SEED"):
        monkeypatch.delenv(name, raising=False)

    def run_file(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile("import pytest, zio\n" + textwrap.dedent(text))
        return pytester.runpytest_subprocess("-p", PLUGIN, "--strict-markers", "-W", "error", *options, timeout=100)

    return run_file


def test_pytest_finds_the_plugin_by_itself() -> None:
    assert [entry.value for entry in entry_points(group="pytest11", name="zio")] == [PLUGIN]


def test_a_marked_test_runs_in_a_task_and_an_unmarked_one_does_not(run: Run) -> None:
    result = run(
        """
        @pytest.mark.zio
        def test_marked(request):
            assert zio.current_task().name == "main"
            with zio.TaskGroup() as group:
                assert group.spawn(lambda: request.node.name).join() == "test_marked"
            before = zio.now()
            zio.sleep(0.001)
            assert 0 < zio.now() - before < 30

        class TestMethods:
            pytestmark = pytest.mark.zio

            @pytest.mark.parametrize("number", [1, 2])
            def test_method(self, number):
                assert zio.current_task().name == "main"

        def test_unmarked():
            with pytest.raises(RuntimeError):
                zio.current_task()
        """
    )
    result.assert_outcomes(passed=4)


def test_a_day_of_a_test_in_virtual_time_takes_no_time(run: Run) -> None:
    result = run(
        """
        @pytest.mark.zio(virtual=True)
        def test_a_day():
            begin = zio.now()
            for _ in range(24):
                with pytest.raises(TimeoutError), zio.timeout(3600):
                    zio.Event().wait()
            assert zio.now() - begin == 86400
        """
    )
    result.assert_outcomes(passed=1)


def test_a_seed_gives_an_order_that_repeats(run: Run) -> None:
    result = run(
        """
        orders = {}

        def order():
            done = []
            with zio.TaskGroup() as group:
                for number in range(10):
                    group.spawn(done.append, number)
            return tuple(done)

        @pytest.mark.zio
        def test_in_turn():
            assert order() == tuple(range(10))

        @pytest.mark.zio(virtual=True, seed=1)
        def test_first():
            orders[1] = order()

        @pytest.mark.zio(seed=1)
        def test_again():
            assert order() == orders[1] != tuple(range(10))

        @pytest.mark.zio(seed=2)
        def test_another():
            assert order() != orders[1]
        """
    )
    result.assert_outcomes(passed=4)


def test_the_fixture_zio_network_is_the_network_of_the_test(run: Run) -> None:
    result = run(
        """
        from zio.testing import SimNetwork

        @pytest.fixture
        def zio_network():
            return SimNetwork(seed=1, latency=10)

        @pytest.mark.zio(virtual=True)
        def test_distance(zio_network):
            with zio.net.listen("far", 80) as listener, zio.net.connect("far", 80):
                listener.accept()
            assert zio.now() >= 20
            assert zio_network.connections or zio_network.report()
        """
    )
    result.assert_outcomes(passed=1)


def test_a_marked_test_may_be_parametrized_by_hypothesis(run: Run) -> None:
    result = run(
        """
        from hypothesis import given, settings, strategies as st

        @pytest.mark.zio(virtual=True)
        @settings(deadline=None)
        @given(st.integers(1, 3600))
        def test_any_time(seconds):
            begin = zio.now()
            zio.sleep(seconds)
            assert zio.now() - begin == seconds

        @pytest.mark.zio(virtual=True)
        @settings(deadline=None, database=None)
        @given(st.integers(1, 3600))
        def test_found(seconds):
            zio.sleep(seconds)
            assert seconds < 100
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*seconds=100,*"])


def test_the_order_may_come_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
        @pytest.mark.zio
        def test_order():
            done = []
            with zio.TaskGroup() as group:
                for number in range(10):
                    group.spawn(done.append, number)
            assert done == list(range(10))
        """
    run(text).assert_outcomes(passed=1)
    monkeypatch.setenv("ZIO_SCHED_SEED", "1")
    run(text).assert_outcomes(failed=1)


def test_a_failed_marked_test_fails_as_any_other(run: Run) -> None:
    result = run(
        """
        @pytest.mark.zio
        def test_assert():
            assert 1 + 1 == 3

        @pytest.mark.zio
        def test_skip():
            pytest.skip("not today")

        @pytest.mark.zio
        @pytest.mark.xfail(raises=KeyError, strict=True)
        def test_known():
            {}["key"]
        """,
        "-rs",
    )
    result.assert_outcomes(failed=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["E *assert (1 + 1) == 3", "SKIPPED*not today"])


def test_a_task_that_fails_unnoticed_fails_the_test(run: Run) -> None:
    result = run(
        """
        def fail():
            raise ValueError("nobody looks")

        @pytest.mark.zio
        def test_unnoticed():
            zio.spawn(fail)
            zio.sleep(0)

        @pytest.mark.zio
        def test_both():
            zio.spawn(fail)
            zio.sleep(0)
            assert not "mine"
        """
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "*ExceptionGroup: tasks that nobody joined have failed (1 sub-exception)",
            "*ValueError: nobody looks",
            "*Besides, a task that nobody joined has failed: ValueError('nobody looks')",
        ]
    )


def test_tasks_that_wait_on_each_other_fail_the_test_at_once(run: Run) -> None:
    result = run(
        """
        @pytest.mark.zio
        def test_forever():
            zio.Event().wait()
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *Deadlock: every task waits*"])


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        ("zio(virtaul=True)", "pytest.mark.zio has no argument 'virtaul'; it has virtual= and seed="),
        ("zio(True)", "pytest.mark.zio takes keyword arguments only, not True"),
        ("zio(virtual=1)", "pytest.mark.zio(virtual=1): it must be True or False"),
        ("zio(seed='a')", "pytest.mark.zio(seed='a'): it must be an int or None"),
        ("zio(seed=True)", "pytest.mark.zio(seed=True): it must be an int or None"),
    ],
)
def test_arguments_of_the_mark_are_checked_before_any_test_runs(run: Run, mark: str, text: str) -> None:
    result = run(f"def test_first():\n    pass\n\n@pytest.mark.{mark}\ndef test_it():\n    pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *::test_it: {text.replace('[', '[[]')}"])
    result.assert_outcomes()


@pytest.mark.parametrize(
    ("test", "text"),
    [
        ("async def test_it():\n    pass", "is for plain functions: no async is needed"),
        ("class TestIt(unittest.TestCase):\n    def test_it(self):\n        pass", "and methods of plain classes"),
    ],
)
def test_what_would_not_run_in_a_runtime_is_refused(run: Run, test: str, text: str) -> None:
    result = run(f"import unittest\n\n@pytest.mark.zio\n{test}\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *::test_it: *{text}"])
