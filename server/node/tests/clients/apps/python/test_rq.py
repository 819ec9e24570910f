"""RQ, unmodified: jobs, retries, delays, dependencies and priorities of queues."""

import time
import uuid
from datetime import timedelta

import redis
from rq import Queue, Retry, SimpleWorker

import rq_jobs

connection = redis.Redis(port=rq_jobs.notes.connection_pool.connection_kwargs["port"], db=7)


def run_until_idle(queues, with_scheduler=False):
    SimpleWorker(queues, connection=connection).work(burst=True, with_scheduler=with_scheduler, logging_level="WARNING")


def test_jobs_run_once_in_order():
    run = uuid.uuid4().hex
    queue = Queue(run, connection=connection)
    jobs = [queue.enqueue(rq_jobs.note, run, number) for number in range(50)]
    run_until_idle([queue])
    assert [job.return_value() for job in jobs] == [2 * number for number in range(50)]
    assert [int(n) for n in rq_jobs.notes.lrange(f"{run}:order", 0, -1)] == list(range(50))
    assert set(rq_jobs.notes.hgetall(f"{run}:done").values()) == {b"1"}


def test_retries_and_dependencies():
    run = uuid.uuid4().hex
    queue = Queue(run, connection=connection)
    first = queue.enqueue(rq_jobs.fails_once, run, 1, retry=Retry(max=2))
    after = queue.enqueue(rq_jobs.note, run, 2, depends_on=first)
    run_until_idle([queue])
    assert (first.return_value(refresh=True), after.return_value(refresh=True)) == (2, 4)
    assert rq_jobs.notes.lrange(f"{run}:order", 0, -1) == [b"1", b"2"]


def test_priorities_and_delays():
    run = uuid.uuid4().hex
    low, high = Queue(f"{run}:low", connection=connection), Queue(f"{run}:high", connection=connection)
    for number in range(5):
        low.enqueue(rq_jobs.note, run, number)
        high.enqueue(rq_jobs.note, run, 10 + number)
    run_until_idle([high, low])
    order = [int(n) for n in rq_jobs.notes.lrange(f"{run}:order", 0, -1)]
    assert order == [10, 11, 12, 13, 14, 0, 1, 2, 3, 4]
    late = low.enqueue_in(timedelta(seconds=1), rq_jobs.note, run, 99)
    deadline = time.monotonic() + 30
    while late.get_status(refresh=True).value != "finished" and time.monotonic() < deadline:
        for queue in (low,):
            for job_id in queue.scheduled_job_registry.get_jobs_to_enqueue():
                queue.scheduled_job_registry.remove(job_id)
                queue.enqueue_job(queue.fetch_job(job_id))
        run_until_idle([low])
        time.sleep(0.1)
    assert late.return_value() == 198
