"""Jobs for test_rq.py."""

import os

import redis

notes = redis.Redis(port=int(os.environ.get("MERIDIAN_PORT", "6379")), db=6)


def note(run, number):
    notes.hincrby(f"{run}:done", number, 1)
    notes.rpush(f"{run}:order", number)
    return number * 2


def fails_once(run, number):
    if notes.hincrby(f"{run}:attempts", number, 1) == 1:
        raise RuntimeError("once")
    return note(run, number)
