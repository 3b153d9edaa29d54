"""gunicorn's hook: the master logs which of its workers ran out of memory.

    gunicorn -c gunicorn_conf.py app:app
"""

import threading
import time

import own_kills


def pre_fork(server, worker):
    worker.since = time.time()


def child_exit(server, worker):
    # In a thread of its own: the master must not wait before it starts the next worker.
    threading.Thread(target=_report, args=(server, worker), daemon=True).start()


def _report(server, worker):
    # Most workers that end were not killed; a short patience is enough to know that.
    kill = own_kills.killed(worker.pid, worker.since, patience=3.0)
    if kill:
        memory = own_kills.memory(kill, worker.pid)
        server.log.error("Worker %s ran out of memory (%s).", worker.pid, memory)
