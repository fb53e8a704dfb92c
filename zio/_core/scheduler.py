"""The loop: ready queue, park and wake, budget, and the hub that polls when there is nothing else to do.

The hub is the greenlet that runs :meth:`Loop.run_until`. A task that must wait takes the next ready one and
switches to it directly; the hub runs when nothing is ready or the budget is spent. The ready queue holds
fibers (to switch to), tasks not started yet (a free fiber takes them) and expiring waits and scopes.

The budget is what one pass may do before the hub polls: about 200 µs. Every blocking call takes one from
``loop.budget``; at zero it calls :meth:`Loop.checkpoint`, which looks at the clock, at cancellation and at
KeyboardInterrupt. A cancelled task runs with a budget of zero, so one test on the fast path serves all.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent

from . import exiting, foreign, log_lines
from .abandoned import AbandonedQueue
from .clock import Clock, MonotonicClock, monotonic
from .dump import dump_loop
from .errors import Cancelled, Deadlock, ForkedError, RuntimeClosed
from .fiber import Fiber, current_fiber
from .inbox import Inbox
from .interrupts import interrupt_main
from .poller import make_poller
from .scope_tree import ScopeNode
from .seconds import check_seconds
from .shuffled import ShuffledQueue
from .task import PENDING, RAISED, RETURNED, Task, inherited_context
from .this_process import forking, notice_fork
from .thread_holder import watched_threads
from .timers import Timers
from .waiter import CANCELLED, FAILED, TIMED_OUT, WOKEN, Waiter, waits_already

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from .poller import Poller
    from .scope_tree import Holder
    from .waiter import Queue

QUANTUM = 64  # operations between two looks at the clock
SLICE = 200e-6  # seconds between two polls while tasks are ready
LONGEST_POLL = 86400.0  # seconds; poll takes no arbitrarily large number
_INF = float("inf")
POOL_CAP = 1000  # parked fibers kept for reuse; 100,000 of them would hold 650 MB


class Loop:
    """One thread's scheduler. Only that thread touches it, but for ``post`` and ``urgent``."""

    # Slots, since with more than 30 attributes an instance has a dict of its own: each access costs twice as much.
    __slots__ = (
        "__weakref__",
        "_deadlocked_on",
        "_idle_fibers",
        "_slice_end",
        "_thread_wakes",
        "_until",
        "budget",
        "callers",
        "calls",
        "clock",
        "closed",
        "closing_calls",
        "deferred",
        "deterministic",
        "exit_request",
        "forked",
        "hub",
        "idle_waiters",
        "inbox",
        "instruments",
        "interruption",
        "io_waiting",
        "jobs",
        "main",
        "on_unhandled",
        "outside_wakers",
        "passes",
        "pid",
        "poller",
        "ready",
        "root",
        "runtime",
        "system",
        "thread_id",
        "tick_end",
        "timers",
    )

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        shuffle: Random | None = None,
        on_unhandled: Callable[[Task[Any], BaseException], None],
    ) -> None:
        self.ready: deque[Any] = deque() if shuffle is None else ShuffledQueue(shuffle)
        self.budget = QUANTUM
        self.hub: Any = None
        self.clock: Clock = clock or MonotonicClock()
        self.timers = Timers()
        self.poller: Poller = make_poller()
        self.inbox = Inbox(self.poller.wake)
        self.on_unhandled = on_unhandled
        # The trees: tasks of zio.spawn; tasks that serve clients and streams; posted calls.
        self.root = ScopeNode()
        self.system = ScopeNode()
        self.calls = ScopeNode()
        self.callers: dict[Task[Any], Holder] = {}  # on whose behalf each of the calls runs
        self.main: Task[Any] | None = None
        # What the main task is to raise: Control-C, or what a signal handler has raised where nobody could take it.
        self.interruption: BaseException | None = None
        self.deferred: dict[Task[Any], BaseException] = {}  # the same for other tasks
        # What could wake us apart from tasks, timers and sockets; a deadlock is certain only without any.
        self.outside_wakers = 0
        self.io_waiting = 0
        self._thread_wakes: list[Callable[[], object]] = []
        self.tick_end: list[Callable[[], object]] = []  # run once, before the next poll
        self.idle_waiters: deque[Waiter] = deque()  # of wait_all_parked
        self.closing_calls = False
        self.closed = False
        self.pid = os.getpid()
        self.thread_id: int | None = None
        # Whether a run must not depend on real time: then time slices are counted, not measured.
        self.deterministic = shuffle is not None or self.clock.virtual
        self._idle_fibers: list[Fiber] = []
        self._slice_end = 0.0
        self._until: Task[Any] | None = None
        self.passes = 0  # of the hub; for statistics
        self.jobs = 0  # at work in threads, each of which will post its result
        self.exit_request: BaseException | None = None  # a SystemExit or KeyboardInterrupt that ended a task
        self.forked = False
        self.instruments: tuple[Any, ...] = ()  # see instruments.py; nothing here looks at them
        self._deadlocked_on: object = None  # the wait of the main task that a Deadlock has ended
        self.runtime: Any = None  # the Runtime that owns this loop

    def __repr__(self) -> str:
        return f"<loop of {self.runtime.title}>"

    # Where am I?

    def is_here(self) -> bool:
        """Whether this is the loop's own thread (a task of it, or its hub)."""
        return foreign.loops_by_thread.get(threading.get_ident()) is self

    def check_usable(self) -> None:
        if self.pid != os.getpid():
            raise ForkedError(
                f"this zio runtime belongs to process {self.pid}; "
                "a forked child must make its own runtime and connections"
            )
        if self.closed:
            exiting.stay_if_over()
            raise RuntimeClosed("the runtime has ended")

    @property
    def idle_fibers(self) -> int:
        """How many are kept for tasks to come."""
        return len(self._idle_fibers)

    # Spawning.

    def spawn(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        *,
        parent: ScopeNode | None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> Task[Any]:
        """A new task at the end of the ready queue. Only in the loop's thread."""
        task = Task(self, parent or self.root, fn, args, name, inherited_context() if context is None else context)
        self.ready.append(task)
        return task

    def spawn_system(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Task[Any]:
        """A task that outlives the user's tasks: empty context, no scope of the caller. Only in the loop's thread."""
        return self.spawn(fn, args, parent=self.system, name=name, context=Context())

    def start_call(self, fn: Callable[..., Any], args: tuple[Any, ...], owner: Holder, context: Context) -> Task[Any]:
        """The task of a posted call, in the context of its caller."""
        task = self.spawn(fn, args, parent=self.calls, context=context)
        self.callers[task] = owner
        return task

    # Waiting. Every blocking call of the package ends up here.
    #
    # An exception may strike between any two instructions: what a signal handler raises, say, or a RecursionError. So
    #
    # * what arms a waiter is one step of C, behind which there is a ``try`` until the wait has ended, with ``struck``;
    # * once armed, a call looks again at what it waits for: a handler may have brought it just before;
    # * what is taken from the ready queue stays there until the step before the switch, ``del ready[0]``: between these
    #   two there is no call, so nothing can come between. (20 ns more than ``popleft``, which would lose the entry.)

    def park(self, waiter: Waiter, queue: Queue | None = None) -> int:
        """Wait until ``waiter`` is claimed; its state. It is armed in ``queue``, unless the caller has armed it.

        The caller disarms it unless WOKEN.
        """
        fiber = waiter.fiber
        try:
            if fiber.waiter is not None:
                raise waits_already(fiber)
            fiber.waiter = waiter
            if queue is not None:
                queue.append(waiter)
            budget = self.budget
            ready = self.ready
            if waiter.state:  # claimed already, by a signal handler perhaps
                self.unqueue(fiber)
            elif budget > 0:
                self.budget = budget - 1
                if ready:
                    item = ready[0]
                    kind = type(item)
                    if kind is Fiber:
                        del ready[0]
                        if item is not fiber:  # which a signal handler may have made ready just now
                            item.switch()
                    elif kind is Task and self._idle_fibers:
                        idle = self._idle_fibers[-1]
                        idle.task = item
                        del ready[0], self._idle_fibers[-1], item  # or this wait would keep the task alive
                        idle.switch()
                    else:  # new fibers are started by the hub only, so that C stacks stay shallow
                        del item
                        self.hub.switch()
                else:
                    self.hub.switch()
            elif fiber.cancelled and not waiter.state and not waiter.stubborn:
                waiter.state = CANCELLED  # by a signal handler, just before
            else:
                self.hub.switch()
            while not waiter.state:  # what came was for a wait that this one, a signal handler's, has come before
                self.hub.switch()
        except GreenletExit:
            raise
        except BaseException as exc:
            if fiber.waiter is waiter:
                fiber.waiter = None
            return self.struck(waiter, exc)
        fiber.waiter = None
        if fiber.cancelled:
            self.budget = 0
        return waiter.state

    def park_for(self, waiter: Waiter, seconds: float, queue: Queue | None = None) -> int:
        """Like ``park``, at most ``seconds``: then the state is TIMED_OUT."""
        if seconds == _INF:
            return self.park(waiter, queue)
        try:
            deadline = self.clock.now() + seconds
            if deadline != deadline:
                raise ValueError("a timeout must be a number of seconds, not NaN")
            self.timers.push(deadline, waiter)
            state = self.park(waiter, queue)
        except BaseException:
            if not waiter.state:
                waiter.state = CANCELLED  # it is armed already: nobody may wake a wait that never begins
            check_seconds("a timeout", seconds)
            raise
        if state != TIMED_OUT:
            self.timers.ended_early()
        return state

    def wait(
        self,
        waiter: Waiter,
        seconds: float | None,
        disarm: Callable[[Waiter], object],
        queue: Queue | None = None,
        take: Callable[[], bool] | None = None,
    ) -> bool:
        """Park; True if woken, False if ``seconds`` passed. Raises Cancelled, or what failed the wait.

        It is armed in ``queue``, unless the caller has armed it. ``disarm(waiter)`` is called unless woken, before
        anything is raised. ``take()``, called once it is armed, is true if there is nothing to wait for any more.
        """
        try:
            if queue is not None:
                queue.append(waiter)
            if take is not None and not waiter.state and take():
                waiter.state = WOKEN
            state = self.park(waiter) if seconds is None else self.park_for(waiter, seconds)
            if state == WOKEN:
                return True
        except BaseException as exc:
            state = self.struck(waiter, exc)
            if state == WOKEN:
                return True
        disarm(waiter)
        if state == FAILED:
            raise waiter.take()
        if state == TIMED_OUT and not waiter.fiber.cancelled:
            return False
        raise Cancelled

    def struck(self, waiter: Waiter, error: BaseException) -> int:
        """An error that is none of the wait's own has come while it was armed; the state that it has ended in.

        FAILED: the call is to disarm it and to raise ``waiter.value``. If the wait was won before, it is won: then the
        error is raised by the task's next blocking call.
        """
        if isinstance(error, GreenletExit):  # thrown in by the collector: nobody is left to tell
            raise error
        fiber = waiter.fiber
        if not waiter.state:
            waiter.value = error
            waiter.state = FAILED
            return FAILED
        self.unqueue(fiber)  # claimed, and not gone yet
        if waiter.state in (WOKEN, FAILED):
            self.raise_later(fiber, error)
        else:
            waiter.value = error
            waiter.state = FAILED
        return waiter.state

    def raise_later(self, fiber: Fiber, error: BaseException) -> None:
        """Have the next blocking call of the task, which runs just now, raise ``error``."""
        task = fiber.task
        if task is self.main or task is None:
            interrupt_main(self, error)
        else:
            self.deferred[task] = error
            self.budget = 0

    def checkpoint(self, fiber: Fiber) -> bool:
        """The slow path of every blocking call, taken when the budget is spent. True if others have run."""
        if forking:
            notice_fork()
        if self.forked:
            self.check_usable()
        if fiber.waiter is not None:  # of a finalizer, say, in the middle of a wait: which is what lets others run
            return False
        if self.deferred and (error := self.deferred.pop(fiber.task, None)) is not None:  # type: ignore[arg-type]
            raise error
        if fiber.cancelled:
            self.budget = 0
            raise Cancelled
        if self.interruption is not None and fiber.task is self.main:
            error, self.interruption = self.interruption, None
            raise error
        if not self.deterministic and monotonic() < self._slice_end:
            self.budget = 0 if forking else QUANTUM
            return False
        self.let_others_run(fiber)
        if fiber.cancelled:
            self.budget = 0
            raise Cancelled
        return True

    def let_others_run(self, fiber: Fiber) -> None:
        """To the end of the ready queue, by way of the hub, so that it polls."""
        ready = self.ready
        try:
            ready.append(fiber)
            self.hub.switch()
        except BaseException:
            self.unqueue(fiber)
            raise
        if fiber.cancelled:
            self.budget = 0

    def unqueue(self, fiber: Fiber) -> None:
        """It goes on by itself."""
        while fiber in self.ready:
            self.ready.remove(fiber)

    def pause(self, fiber: Fiber) -> None:
        """To the end of the ready queue; the hub polls only when the budget is spent."""
        budget = self.budget
        if budget <= 0:
            if self.checkpoint(fiber):
                return
            budget = self.budget
        self.budget = budget - 1
        ready = self.ready
        if ready and fiber.waiter is None:
            try:
                ready.append(fiber)
                item = ready[0]
                if type(item) is Fiber:
                    del ready[0]
                    item.switch()
                else:
                    self.hub.switch()
            except BaseException:
                self.unqueue(fiber)
                raise
            if fiber.cancelled:
                self.budget = 0
                raise Cancelled

    # Fibers.

    @staticmethod
    def fiber_main() -> None:
        """The life of a fiber: run a task, then the next one, or wait in the pool.

        No method: a parked fiber keeps 100 bytes less of the C stack so.
        """
        fiber = current_fiber()
        loop = fiber.loop
        ready = loop.ready
        while True:
            state = PENDING
            outcome: Any = None
            try:
                while True:
                    task = fiber.task
                    if task is None:
                        if loop.closed:
                            fiber.spare = None  # a cycle
                            return  # the pool is being closed
                        raise RuntimeError(
                            "a fiber without a task was woken: a waiter was armed, and neither waited for nor disarmed"
                        )
                    context = task.context
                    if context is not None or fiber.gr_context is not None:  # reading it costs less than writing it
                        fiber.gr_context = context
                    del context
                    task.running_on = fiber
                    args = task.payload
                    fiber.cancelled = cancelled = task.cancelled
                    if cancelled:
                        state, outcome = RAISED, Cancelled()
                    else:
                        try:
                            # A call without * is run by the same C frame: less C stack to save for a parked task.
                            if not args:
                                outcome = task.fn()  # type: ignore[misc]
                            elif len(args) == 1:
                                outcome = task.fn(args[0])  # type: ignore[misc]
                            else:
                                outcome = task.fn(*args)  # type: ignore[misc]
                            state = RETURNED
                        except BaseException as exc:
                            if isinstance(exc, GreenletExit) and (fiber.waiter is not None or loop.closed):
                                raise  # thrown in by the collector, where the task was parked: nobody is left to tell
                            state, outcome = RAISED, exc
                            # Our own frame says nothing to the reader of a traceback.
                            if exc.__traceback__ is not None:
                                exc.__traceback__ = exc.__traceback__.tb_next
                    args = None  # what is dropped from here on may have destructors, which find all in order still
                    if loop.budget <= 0 and loop.deferred:
                        state, outcome = loop.ends_with(task, state, outcome)
                    task.finish(state, outcome)
                    if state == RAISED:
                        loop._ended_with_error(task, outcome)
                    fiber.cancelled = False
                    if task is loop._until:
                        loop.budget = 0
                    del task  # before another one is taken from the queue
                    outcome = None
                    state = PENDING
                    fiber.task = None
                    # Another task can start right here, on the same stack: no switch at all.
                    budget = loop.budget
                    if ready and budget > 0:
                        item = ready[0]
                        if type(item) is Task:
                            fiber.task = item
                            del ready[0], item
                            loop.budget = budget - 1
                            continue
                        del item
                    fiber.gr_context = None
                    if len(loop._idle_fibers) >= POOL_CAP:
                        fiber.spare = None  # a cycle
                        return  # to the hub, our parent
                    loop._idle_fibers.append(fiber)
                    if ready and budget > 0:
                        item = ready[0]
                        if type(item) is Fiber:
                            del ready[0]
                            item.switch()
                            item = None
                            continue
                        del item
                    loop.hub.switch()
            except BaseException as exc:
                if isinstance(exc, GreenletExit) or loop.closed or loop.forked:
                    raise
                struck = exc
            loop.recover(fiber, state, outcome, struck)  # what a signal handler has raised in here
            del struck

    def ends_with(self, task: Task[Any], state: int, outcome: Any) -> tuple[int, Any]:
        """How a task ends that was to raise an error at its next blocking call, and made none."""
        error = self.deferred.pop(task, None)
        return (state, outcome) if error is None else (RAISED, error)

    def recover(self, fiber: Fiber, state: int, outcome: Any, error: BaseException) -> None:
        """An error has struck a fiber outside of its task's own code."""
        if fiber in self._idle_fibers:
            self._idle_fibers.remove(fiber)
        self.unqueue(fiber)
        fiber.waiter = None
        task = fiber.task
        if task is None or task.done:
            interrupt_main(self, error)
        elif state == PENDING:  # the task's code had not begun: it is the task's
            task.finish(RAISED, error)
            self._ended_with_error(task, error)
        else:
            interrupt_main(self, error)
            task.finish(state, outcome)
            if state == RAISED:
                self._ended_with_error(task, outcome)
        if task is not None and task is self._until:
            self.budget = 0
        fiber.cancelled = False
        fiber.task = None
        self._idle_fibers.append(fiber)
        self.hub.switch()

    def _ended_with_error(self, task: Task[Any], error: BaseException) -> None:
        """Report at once what nobody waits for. Groups and posted calls take their errors through ``on_done``.

        An exit ends the run, but for the background runtime: that serves the whole process, and no task speaks for it.
        """
        if task is self.main or task.joined or task.parent is self.calls:
            return
        if isinstance(error, Cancelled) and task.cancelled:
            return
        exits = isinstance(error, (KeyboardInterrupt, SystemExit))
        if exits and self.main is not None and not self.runtime.is_background:
            self.exit_request = self.exit_request or error
            self.main.cancel()
            return
        self.on_unhandled(task, error)

    # The hub.

    def run_until(self, task: Task[Any]) -> None:
        """Run until ``task`` has ended. The greenlet that calls this is the hub."""
        self._until = task
        while not task.done:
            if self.forked:
                self.check_usable()
            try:
                self._pass(task)
            except BaseException as exc:
                if isinstance(exc, Deadlock) or self.forked or not self._hand_on(exc):
                    raise
        self._until = None

    def _pass(self, task: Task[Any]) -> None:
        """Poll, and run what is ready until the budget is spent, or ``task`` has ended."""
        ready, idle = self.ready, self._idle_fibers
        self._poll()
        self.passes += 1
        self.budget = QUANTUM
        if not self.deterministic:
            self._slice_end = monotonic() + SLICE
        while ready:
            item = ready[0]
            kind = type(item)
            if kind is Fiber:
                del ready[0]
                item.switch()
            elif kind is Task:
                fiber = idle[-1] if idle else Fiber(self)
                fiber.task = item
                item = None  # or the hub keeps an ended task alive while it sleeps
                del ready[0], idle[-1:]
                fiber.switch()
            else:
                del ready[0]
                try:
                    item.expire()
                except BaseException:
                    ready.appendleft(item)  # twice does no harm
                    raise
            if self.budget <= 0:
                if self.deterministic or self.forked or monotonic() >= self._slice_end or task.done:
                    break
                self.budget = QUANTUM

    def _hand_on(self, error: BaseException) -> bool:
        """An error was raised in the hub, mostly by a signal handler: it is for the main task. False if there is none.

        What the poller was about to say may be lost, so everybody who waits for a socket looks for himself.
        """
        self.poller.suspect_all(self.ready)
        main = self.main
        if isinstance(error, GreenletExit) or main is None or main.done or self.interruption is not None:
            return False
        interrupt_main(self, error)
        return True

    def _poll(self) -> None:
        """Collect what has become ready; wait for it if there is nothing to run."""
        ready, timers, clock = self.ready, self.timers, self.clock
        heap = timers.heap
        if self.tick_end:
            self.run_tick_end()
        if self.inbox:
            self.inbox.run()
        if heap and heap[0][0] <= (now := clock.now()):
            timers.fire(now, ready)
        if self._thread_wakes:
            self._wake_threads()
        if ready:
            if self.io_waiting:
                self.poller.poll(0, ready)
            return
        if self.tick_end or self.inbox:
            return
        deadline = timers.next_deadline()
        before_jump = None  # seconds of real time
        if self.idle_waiters or (clock.virtual and deadline is not None):
            # Parked, unless a socket or another thread has something for us right now.
            self.poller.poll(0, ready)
            if ready or self.inbox or self.outside_jobs_running():
                pass
            elif self.idle_waiters:
                self.idle_waiters.popleft().wake()
                return
            elif deadline is not None:
                before_jump = clock.real_wait(deadline, self.io_waiting > 0)
                if before_jump <= 0:
                    clock.jump(deadline)
                    return
            if ready or self.inbox:
                return
        if deadline is None:
            if not self.io_waiting and not self.outside_wakers and self._deadlocked():
                self._break_deadlock()
                return
            timeout = None
        elif clock.virtual:
            timeout = before_jump  # without one time stands still, while another thread works for us
        else:
            timeout = min(max(deadline - clock.now(), 0), LONGEST_POLL)
        try:
            # Looked at last: a signal handler may have made something ready meanwhile. (One that does so from here on
            # ends the poll: see take_wakeup_fd.)
            if self.inbox.may_sleep() and not ready:
                self.poller.poll(timeout, ready)
                if before_jump is not None and deadline is not None:
                    clock.waited(deadline)
        finally:
            self.inbox.awake()
        if self.inbox:
            self.inbox.run()
        if heap and heap[0][0] <= (now := clock.now()):
            timers.fire(now, ready)

    def wake_thread(self, wake: Callable[[], object]) -> None:
        """Call ``wake``, which lets a plain thread go on, when the loop is about to poll. Only in the loop's thread.

        Woken any earlier it would only wait for the interpreter, which this thread has until it polls: a request
        from a plain thread took 4 to 5 context switches then, and takes 2 to 3 so. With tasks ready it is done at once,
        since there is no telling how long they compute.
        """
        if self.ready or self.closed:
            wake()
        else:
            self._thread_wakes.append(wake)

    def _wake_threads(self) -> None:
        wakes = self._thread_wakes
        while wakes:
            wakes[0]()  # it does no harm to wake a thread twice
            del wakes[0]

    def run_tick_end(self) -> None:
        """Call the hooks; those that they put in themselves come next time."""
        hooks = self.tick_end
        for _ in range(len(hooks)):
            hooks[0]()  # which stays there if an error strikes: once more does no harm
            del hooks[0]

    def outside_jobs_running(self) -> bool:
        """Whether a thread of ours works on something: then virtual time must not jump, and nothing is idle."""
        return self.jobs > 0

    # Other threads.

    def post(
        self, fn: Callable[..., Any], *args: Any, lost: Callable[[], None] | None = None, optional: bool = False
    ) -> None:
        """Have the hub call ``fn(*args)``, from any thread. In order; one wake-up for all that come while it sleeps.

        After the end of the loop raises RuntimeClosed (nothing with ``optional=True``); what the end finds in
        the inbox is told by its ``lost()``.
        """
        self.inbox.put(fn, args, lost, optional)

    def urgent(self, fn: Callable[[], Any]) -> None:
        """Like ``post``; nothing when the loop has ended. For signal handlers and finalizers."""
        self.inbox.put(fn, (), None, True)

    # Deadlock.

    def _deadlocked(self) -> bool:
        if self.jobs or self.inbox.watched or log_lines.writing() or foreign.another_thread_could_wake_us():
            return False
        if any(thread.ident != self.thread_id for thread in list(watched_threads)):
            return False  # the end of one breaks a lock
        return not (self.inbox or self.ready)  # looked at last: what is gone by now may have left something

    def has_work(self) -> bool:
        """Whether there is any task but the main one, which may do something of its own accord. From any thread.

        A background runtime without any wakes nobody.
        """
        root = self.root.kids
        return bool(
            self.ready
            or self.inbox
            or self.system.kids
            or self.calls.kids
            or (root is not None and len(root) > 1)
            or self.runtime.pool.working()
        )

    def _break_deadlock(self) -> None:
        error = Deadlock("every task waits for another one and nothing can wake any of them\n" + dump_loop(self))
        main = self.main
        waiter = main.fiber.waiter if main is not None and main.fiber is not None else None
        # Raised in the hub, which ends the run, if the main task has ended or went back to the same wait.
        if waiter is None or waiter.what is self._deadlocked_on or not waiter.fail(error):
            raise error
        self._deadlocked_on = waiter.what

    # The end.

    def abandon_in_child(self) -> None:
        """In a forked child: let go of what is shared with the parent, so that nothing done here reaches it."""
        self.forked = True
        self.budget = 0
        self.ready = AbandonedQueue()
        self.inbox.abandon()
        self.poller.abandon()

    def close(self) -> None:
        """Release fds and fibers. Called by the hub's greenlet when no task is left."""
        self.closed = True
        self._wake_threads()
        self.inbox.close()
        while self._idle_fibers:
            self._idle_fibers.pop().switch()  # its task is None: it returns
        self.poller.close()


def here() -> Fiber:
    """The fiber that is running; raises if this is no task of a zio runtime."""
    fiber = getcurrent()
    if type(fiber) is Fiber:
        return fiber
    raise RuntimeError("this needs a running zio task: call it inside zio.run(...)")
