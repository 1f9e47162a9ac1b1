"""What a driver in Python is told, asks for and says: see `Run.drive` in ../../js/lib/stage.mjs."""

import json
import os
import sys
import traceback

TOLD = json.loads(os.environ["STAGE"])
URLS = TOLD["urls"]
PAYLOAD = "0123456789abcdef" * (256 * 64)


def say(message):
    print(json.dumps(message), flush=True)


def ask(what):
    """Has the stage do something, and returns its answer."""
    say({"ask": what})
    return json.loads(sys.stdin.readline())


def topic(name):
    return f"room:{TOLD['run']}-{name}"


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r:.200} instead of {wanted!r:.200}")


def report(scenario, error):
    why = None if error is None else "".join(traceback.format_exception(error))
    say({"scenario": scenario, "why": why})
