#!/bin/sh
# The agent is not started at its installation: its rules have to be looked at first. At an
# upgrade a running one is started again.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart herder-agent.service
fi
