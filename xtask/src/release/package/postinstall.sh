#!/bin/sh
# The agent is not started at its installation: its rules have to be looked at first. At an
# upgrade a running one is started again. If that fails the package is installed all the same.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    systemctl try-restart herder-agent.service || echo "herder-agent.service was not restarted" >&2
fi
