import threading

import pytest

from llm_engineering.crawl.workers import in_parallel
from llm_engineering.domain.config import SourceConfig
from tests.doubles.crawling import CrawlWorld
from tests.doubles.web import Answer, LocalSite


def test_every_group_keeps_its_order_and_nothing_is_lost():
    groups = [iter([(group, number) for number in range(50)]) for group in range(7)]
    items = list(in_parallel(groups, workers=3, ahead=2))
    assert len(items) == 350
    assert all([n for g, n in items if g == group] == list(range(50)) for group in range(7))


def test_two_groups_run_at_the_same_time():
    meeting = threading.Barrier(2, timeout=60)

    def group():
        yield meeting.wait()

    assert sorted(in_parallel([group(), group()], workers=2)) == [0, 1]


def test_no_more_groups_run_at_once_than_there_are_workers():
    lock, running, most = threading.Lock(), [0], [0]

    def group():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        yield
        with lock:
            running[0] -= 1

    list(in_parallel([group() for _ in range(20)], workers=2))
    assert most[0] <= 2


def test_an_error_in_a_group_is_raised_to_the_consumer():
    def broken():
        yield 1
        raise LookupError("a defect")

    with pytest.raises(LookupError, match="a defect"):
        list(in_parallel([broken()], workers=2))


def test_a_consumer_that_stops_lets_the_groups_clean_up():
    cleaned = threading.Event()

    def endless():
        try:
            while True:
                yield 1
        finally:
            cleaned.set()

    stream = in_parallel([endless()], workers=1, ahead=1)
    next(stream)
    stream.close()
    assert cleaned.wait(10)


def test_no_groups_are_no_items():
    assert list(in_parallel([], workers=2)) == []


def test_two_hosts_are_crawled_at_the_same_time(tmp_path):
    meeting = threading.Barrier(2, timeout=60)

    def answer(_):
        meeting.wait()
        return Answer("<article><h1>Title</h1><p>Both hosts answer only when both were asked at once.</p></article>")

    world = CrawlWorld(tmp_path)
    with LocalSite({"/one": answer}) as here, LocalSite({"/one": answer}, host="127.0.0.2") as there:
        report = world.crawl(*(SourceConfig(at=site.at("/one"), type="article") for site in (here, there)))
    assert report.totals == {"stored": 2}
    world.close()
