"""Bare greenlet with the smallest scheduler (a deque of runnables): the floor for greenlet runtimes in Python."""

from collections import deque

from greenlet import getcurrent, greenlet
from rt import Meter, main

ready = deque()
hub = getcurrent()


def run():
    pop = ready.popleft
    while ready:
        pop().switch()


def noop(): ...


def spawn(a):
    m = Meter().start()
    for _ in range(a.n):
        ready.append(greenlet(noop))
    run()
    return m.stop(a.n)


def yield_(a):  # every yield goes through the hub: two switches
    def task():
        me, switch, put = getcurrent(), hub.switch, ready.append
        for _ in range(a.n // 2):
            put(me)
            switch()

    m = Meter().start()
    ready.extend([greenlet(task), greenlet(task)])
    run()
    return m.stop(a.n)


def pingpong_event(a):  # direct hand-over: one switch, no hub
    k = a.n // 2

    def pong(*_):
        other = main_g.switch
        while True:
            other()

    main_g, g = getcurrent(), greenlet(pong)
    m = Meter().start()
    switch = g.switch
    for _ in range(k):
        switch()
    return m.stop(a.n)


def chan(a):
    q, cap = deque(), a.cap
    waiting = [None, None]  # producer, consumer

    def park(i):
        waiting[i] = getcurrent()
        hub.switch()

    def wake(i):
        g = waiting[i]
        if g is not None:
            waiting[i] = None
            ready.append(g)

    def producer():
        for i in range(a.n):
            while len(q) >= cap:
                park(0)
            q.append(i)
            if waiting[1] is not None:
                wake(1)

    def consumer():
        for _ in range(a.n):
            while not q:
                park(1)
            q.popleft()
            if waiting[0] is not None:
                wake(0)

    m = Meter().start()
    ready.extend([greenlet(producer), greenlet(consumer)])
    run()
    return m.stop(a.n)


main(globals())
