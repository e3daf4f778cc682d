import threading

import pytest

from llm_engineering.adapters.pacing import Pacer
from llm_engineering.domain.errors import FetchRefused
from tests.doubles.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pacer(clock):
    return Pacer(clock=clock, sleep=clock.sleep)


def test_requests_to_one_host_keep_their_distance(pacer, clock):
    for _ in range(3):
        with pacer.turn("example.org", 2.0):
            pass
    assert clock.slept == [2.0, 2.0]


def test_the_pause_is_counted_from_the_end_of_the_last_request(pacer, clock):
    with pacer.turn("example.org", 2.0):
        clock.now += 10
    clock.now += 0.5
    with pacer.turn("example.org", 2.0):
        pass
    assert clock.slept == [1.5]


def test_hosts_do_not_wait_for_each_other(pacer, clock):
    for host in ["a.example", "b.example", "c.example"]:
        with pacer.turn(host, 2.0):
            pass
    assert clock.slept == []


def test_different_hosts_have_their_turns_at_the_same_time(pacer):
    meeting = threading.Barrier(2, timeout=60)

    def visit(host):
        with pacer.turn(host, 0):
            meeting.wait()

    threads = [threading.Thread(target=visit, args=(host,)) for host in ["a.example", "b.example"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not meeting.broken


def test_one_host_has_one_visitor_at_a_time(pacer):
    inside, most = [], []

    def visit():
        with pacer.turn("example.org", 0):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_a_postponed_host_waits_for_everyone(pacer, clock):
    pacer.postpone("example.org", 30)
    with pacer.turn("example.org", 1):
        pass
    assert clock.slept == [30]


def test_a_wait_that_is_too_long_is_refused_instead(pacer, clock):
    pacer.postpone("example.org", 3600)
    with pytest.raises(FetchRefused, match="3600 s") as refusal, pacer.turn("example.org", 1, longest=60):
        pass
    assert (refusal.value.reason, clock.slept) == ("retry-after", [])


def test_memory_stays_bounded_over_many_hosts(clock):
    pacer = Pacer(clock=clock, sleep=clock.sleep, capacity=10)
    for number in range(1000):
        with pacer.turn(f"{number}.example", 1):
            pass
        clock.now += 1
    assert len(pacer) <= 11


def test_a_host_whose_pause_is_not_over_is_never_forgotten(clock):
    pacer = Pacer(clock=clock, sleep=clock.sleep, capacity=2)
    pacer.postpone("busy.example", 50)
    for number in range(10):
        pacer.postpone(f"{number}.example", 0)
    with pacer.turn("busy.example", 0):
        assert clock.slept == [50]
