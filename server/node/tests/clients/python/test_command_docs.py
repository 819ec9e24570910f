"""COMMAND DOCS beside that of Redis 7.2, where one runs at REDIS_72_PORT: names, types, tokens and versions agree."""

import os

import pytest
import redis

from conftest import HOST, PORT

REDIS_PORT = int(os.environ.get("REDIS_72_PORT", "0"))
# In our own words.
TEXTS = {"summary", "complexity", "replaced_by"}


def text(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {text(key): text(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [text(entry) for entry in value]
    if isinstance(value, set):
        return sorted(text(entry) for entry in value)
    return value


def of_7_2(arguments):
    """Arguments without those that later versions have brought."""

    def is_known(argument):
        return tuple(map(int, argument.get("since", "0").split("."))) < (7, 4)

    known = [argument for argument in arguments if is_known(argument)]
    for argument in known:
        if "arguments" in argument:
            argument["arguments"] = of_7_2(argument["arguments"])
    return known


def docs(port, host=HOST):
    client = redis.Redis(host, port, protocol=3)
    client.response_callbacks.pop("COMMAND DOCS", None)
    found = {}

    def add(commands):
        for name, entry in commands.items():
            subcommands = entry.pop("subcommands", {})
            found[name] = {key: value for key, value in entry.items() if key not in TEXTS}
            if "arguments" in entry:
                found[name]["arguments"] = of_7_2(entry["arguments"])
            found[name]["history"] = sorted(change[0] for change in entry.get("history", []) if change[0] < "7.4")
            add(subcommands)

    add(text(client.execute_command("COMMAND DOCS")))
    return found


@pytest.mark.skipif(REDIS_PORT == 0, reason="no REDIS_72_PORT")
def test_facts_agree():
    ours, theirs = docs(PORT), docs(REDIS_PORT, "127.0.0.1")
    both = ours.keys() & theirs.keys()
    assert len(both) > 300
    differ = [name for name in sorted(both) if ours[name] != theirs[name]]
    assert differ == []


def test_every_command_is_told():
    found = docs(PORT)
    assert all(entry["group"] and entry["since"] for entry in found.values())
    arguments = {entry["name"]: entry for entry in found["set"]["arguments"]}
    assert arguments["key"]["key_spec_index"] == 0
    assert [entry["token"] for entry in arguments["condition"]["arguments"]][:2] == ["NX", "XX"]
