"""The harness of an agent's sandbox: a tool that dies is an answer, and the harness goes on.

It reads tool calls from its standard input, one JSON list of words a line, and writes one JSON object
a line for each: what the tool printed, or why it failed, in words that a model can act on.
"""

import json
import signal
import subprocess
import sys
import time

import own_kills


def call(command):
    since = time.time()
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output, _ = tool.communicate()
    status = tool.returncode
    answer = {"ok": status == 0, "output": output[-4096:]}
    if status == -signal.SIGKILL:
        kill = own_kills.killed(tool.pid, since)
        if kill:
            memory = own_kills.memory(kill, tool.pid)
            answer["error"] = f"The tool ran out of memory ({memory}). Process the data in smaller parts."
        else:
            answer["error"] = "The tool was killed."
    elif status != 0:
        answer["error"] = f"The tool ended with exit code {status}."
    return answer


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(call(json.loads(line))), flush=True)
