#!/bin/bash
# Does what Spark's own decom.sh does: asks the executor to leave, and waits.
pid=$(pgrep -f KubernetesExecutorBackend | head -n 1)
kill -s SIGPWR "$pid"
timeout 60 tail --pid="$pid" -f /dev/null
sleep 1
