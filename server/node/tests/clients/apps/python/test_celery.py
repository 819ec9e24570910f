"""Celery, unmodified, with Meridian as broker and as result store: nothing lost, nothing run twice."""

import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from celery import chord, group

from celery_jobs import add, fails_twice, notes, total

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def worker():
    command = [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker", "--pool=threads", "--concurrency=4"]
    process = subprocess.Popen(command + ["--loglevel=WARNING"], cwd=HERE, stdout=subprocess.DEVNULL)
    yield process
    process.terminate()
    process.wait(timeout=30)


def test_jobs_run_once(worker):
    run = uuid.uuid4().hex
    results = [add.delay(run, number) for number in range(100)]
    assert [result.get(timeout=60) for result in results] == list(range(1, 101))
    assert notes.hgetall(f"{run}:done") == {str(n).encode(): b"1" for n in range(100)}


def test_retries_and_delays(worker):
    run = uuid.uuid4().hex
    begun = time.monotonic()
    results = [fails_twice.delay(run, number) for number in range(10)]
    assert [result.get(timeout=60) for result in results] == [3] * 10
    assert time.monotonic() - begun >= 0.4
    late = add.apply_async((run, 1000), countdown=1)
    begun = time.monotonic()
    assert late.get(timeout=60) == 1001
    assert time.monotonic() - begun >= 0.9
    assert set(notes.hgetall(f"{run}:done").values()) == {b"1"}


def test_priorities_and_chords(worker):
    run = uuid.uuid4().hex
    jobs = [add.apply_async((run, number), priority=number % 10) for number in range(20)]
    assert [job.get(timeout=60) for job in jobs] == list(range(1, 21))
    header = group(add.s(run, number) for number in range(100, 120))
    assert chord(header)(total.s()).get(timeout=60) == sum(range(101, 121))
