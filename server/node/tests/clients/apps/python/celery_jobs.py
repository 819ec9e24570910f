"""The application that test_celery.py runs: jobs that note what they did, in Meridian."""

import os

import redis
from celery import Celery

PORT = os.environ.get("MERIDIAN_PORT", "6379")
BROKER = f"redis://127.0.0.1:{PORT}/3"

app = Celery("jobs", broker=BROKER, backend=f"redis://127.0.0.1:{PORT}/4")
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"priority_steps": [0, 3, 6, 9], "queue_order_strategy": "priority"},
)
notes = redis.Redis(port=int(PORT), db=5)


@app.task
def add(run, number):
    notes.hincrby(f"{run}:done", number, 1)
    return number + 1


@app.task(bind=True, max_retries=5)
def fails_twice(self, run, number):
    attempt = notes.hincrby(f"{run}:attempts", number, 1)
    if attempt < 3:
        raise self.retry(countdown=0.2)
    notes.hincrby(f"{run}:done", number, 1)
    return attempt


@app.task
def total(numbers):
    return sum(numbers)
