#!/usr/bin/env bash
# submit.sh COMMAND... JOBSCRIPT: submits the script so that its exit status is left in a file. A job
# that the scheduler kills leaves none. Prints NUMBER@NAME: the job's number, and the file's name.
set -euo pipefail
folder=$PWD/.snakemake/cluster-generic
mkdir -p "$folder"
wrapped=$(mktemp "$folder/XXXXXXXX")
{
    echo '#!/usr/bin/env bash'
    echo '('
    cat "${@: -1}"
    echo
    echo ')'
    printf 'echo $? > %q\n' "$wrapped.status"
} > "$wrapped"
chmod +x "$wrapped"
answer=$("${@:1:$#-1}" "$wrapped")
if [[ ! $answer =~ [0-9]+ ]]; then
    echo "no number in the scheduler's answer: $answer" >&2
    exit 1
fi
echo "${BASH_REMATCH[0]}@$(basename "$wrapped")"
