"""gunicorn's hook: the master logs which of its workers ran out of memory.

    gunicorn -c gunicorn_conf.py app:app
"""

import threading
import time

import own_kills


def child_exit(server, worker):
    # The hook does not say how the worker ended. It has ended just now, and so has one that was
    # killed: an older kill was another process with the same id.
    since = time.time() - 5
    # In a thread of its own: the master must not wait before it starts the next worker.
    threading.Thread(target=_report, args=(server, worker, since), daemon=True).start()


def _report(server, worker, since):
    # Most workers that end were not killed; a short patience is enough to know that.
    kill = own_kills.killed(worker.pid, since, patience=3.0)
    if kill:
        memory = own_kills.memory(kill, worker.pid)
        server.log.error("Worker %s ran out of memory (%s).", worker.pid, memory)
