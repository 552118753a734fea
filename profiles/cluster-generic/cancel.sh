#!/usr/bin/env bash
# cancel.sh NUMBER@NAME...: deletes jobs.
. "$(dirname "$0")/scheduler.sh"
$delete "${@%@*}"
