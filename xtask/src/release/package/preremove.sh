#!/bin/sh
# "remove" is dpkg's word, 0 is rpm's; at an upgrade both say something else.
set -e
case "$1" in
remove | 0)
    if [ -d /run/systemd/system ]; then
        systemctl disable --now herder-agent.service || systemctl stop herder-agent.service || true
    fi
    ;;
esac
