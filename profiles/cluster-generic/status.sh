#!/usr/bin/env bash
# status.sh NUMBER@NAME: says running, success or failed.
set -uo pipefail
here=$(dirname "$0")
. "$here/scheduler.sh"
file=.snakemake/cluster-generic/${1#*@}.status

left() {
    if [ -s "$file" ]; then
        [ "$(cat "$file")" = 0 ] && echo success || echo failed
        exit
    fi
}

left
answer=$($ask "${1%@*}" 2>&1)
if [ $? -ne 0 ] && grep -qiE 'unknown|not exist|not found|has finished' <<< "$answer"; then
    # The scheduler has forgotten it: its status may just have been written, and be on its way here.
    sleep 5
    left
    echo failed
elif grep -qE '\bEXIT\b' <<< "$answer"; then # LSF remembers what it killed
    echo failed
else
    # It waits, it runs, or the scheduler does not answer now.
    echo running
fi
