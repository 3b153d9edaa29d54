"""Asks the Herder agent of this node for the OOM kills of this pod. Standard library only.

The agent knows the pod by its address. The component `self` (the chart's value `self.enabled`)
has to be installed; docs/self.md has the fields of a kill.

In a pod with several containers, set HERDER_CONTAINER to the name of this one: process ids are
those of a container, and another container has the same.
"""

import datetime
import json
import os
import time
import urllib.request

URL = os.environ.get("HERDER_URL", "http://herder-self.herder-system.svc:9470")

CONTAINER = os.environ.get("HERDER_CONTAINER")

# A proxy would be asked in its own name, and the agent refuses its requests.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def kills():
    """The last kills, the newest first."""
    with _direct.open(URL + "/api/v1/self/kills", timeout=2) as answer:
        return json.load(answer)


def killed(pid, since, patience=5.0):
    """The kill that took the process `pid`, or None: there is none, or no agent says so.

    `since` is when the process was started (time.time()), because process ids are used again.
    The agent has a kill some milliseconds after it happened. In a container that has just
    started it may take seconds until the agent knows the pod, so it is asked for a while.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            for kill in kills():
                # A second for clocks that are set meanwhile.
                if _is_here(kill) and victim(kill, pid) and when(kill) >= since - 1:
                    return kill
        # No agent, no answer in time, 403 or 503.
        except (OSError, ValueError):
            pass
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.25)


def _is_here(kill):
    return CONTAINER is None or kill["container"] == CONTAINER


def victim(kill, pid):
    """The process `pid` of a kill, by its id inside of the container."""
    return next((one for one in kill["victims"] if one["ns_pid"] == pid), None)


def when(kill):
    """The time of a kill, as time.time() has it."""
    return datetime.datetime.fromisoformat(kill["time"].replace("Z", "+00:00")).timestamp()


def memory(kill, pid):
    """What the process held, and the container's limit: `412 MiB of 512`."""
    process = victim(kill, pid)
    held = sum(process[size] or 0 for size in ("anon_rss", "file_rss", "shmem_rss"))
    limit = kill["container_limit_bytes"]
    return f"{held >> 20} MiB of {limit >> 20}" if limit else f"{held >> 20} MiB"
