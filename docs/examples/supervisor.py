"""Runs a job, and says so if it ran out of memory. Without that its caller sees `exit code -9`.

    python3 supervisor.py COMMAND ARGUMENT...
"""

import signal
import subprocess
import sys
import time

import own_kills


class JobFailed(Exception):
    """The job did not end well; the text is for the caller that wanted it done."""


def run(command):
    since = time.time()
    job = subprocess.Popen(command)
    status = job.wait()
    if status == 0:
        return
    if status == -signal.SIGKILL:
        kill = own_kills.killed(job.pid, since)
        if kill:
            raise JobFailed(f"your job ran out of memory ({own_kills.memory(kill, job.pid)})")
    raise JobFailed(f"your job failed: exit code {status}")


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except JobFailed as failure:
        print(failure, flush=True)
        sys.exit(1)
