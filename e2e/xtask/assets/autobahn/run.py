"""Runs cases of the Autobahn test suite against a server: run.py HOST:PORT CASE... . The exit code is 1 when a case is not
passed strictly, or when none was run."""

import asyncio
import os
import sys

from kosoku import FailureError, run_fuzzingclient

# The suite's own words. Cases about what RFC 6455 leaves open are informational.
GOOD = {"OK", "INFORMATIONAL"}


async def main(address, cases):
    try:
        results = await run_fuzzingclient(address, cases)
    except FailureError as failure:
        results = failure.results
    bad = [one for one in results if not {one.behavior.value, one.behavior_close.value} <= GOOD]
    for one in bad:
        print(f"{one.case_id}: {one.behavior.value}, close {one.behavior_close.value}: {one.description}")
    print(f"{len(results) - len(bad)} cases passed strictly, {len(bad)} did not")
    return 1 if bad or not results else 0


code = asyncio.run(main(sys.argv[1], sys.argv[2:]))
sys.stdout.flush()
# The package has threads that abort the process while the interpreter ends in its usual way.
os._exit(code)
