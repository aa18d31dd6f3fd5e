#!/bin/sh
# An installer made by condastore: this script, and behind it the archive of an environment.
# It needs no conda and no network. Run it with -h to see what it can do.

NAME=@NAME@
VERSION=@VERSION@
# What it was made for; empty if it runs everywhere.
SYSTEM=@SYSTEM@
MACHINES=@MACHINES@
# Whether the environment has a Python: one must tell its files where they are now.
PYTHON=@PYTHON@
ARCHIVE_START=@ARCHIVE_START@
# Of the last line with its start, and of the hash that it ends with.
TRAILER_BYTES=@TRAILER_BYTES@
SUM_BYTES=@SUM_BYTES@

usage() {
    cat <<USAGE
usage: $0 [-b] [-p PREFIX] [-f | -u] [-h]

Installs $NAME $VERSION.

-b           batch mode: asks nothing
-p PREFIX    where to install (default: ${HOME:-}/$NAME)
-f           no error if the prefix exists: adds to it, and overwrites files of the same names
-u           updates an existing environment: replaces it, with all that was added to it
-s           for other installers' sake; there are no scripts to skip
-h           shows this and ends
USAGE
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf '%s: %s\n' "$0" "$*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

check_machine() {
    [ -n "$SYSTEM" ] || return 0
    system=$(uname -s)
    machine=$(uname -m)
    case " $MACHINES " in
        *" $machine "*) [ "$system" = "$SYSTEM" ] && return 0 ;;
    esac
    fail "$NAME is for $SYSTEM on ${MACHINES%% *}, and this is $system on $machine."
}

check_tools() {
    for tool in tail head tr wc gzip tar; do
        has "$tool" || fail "The program '$tool' is needed, and is not on the PATH."
    done
    if [ "$PYTHON" = no ]; then
        has python3 || fail "$NAME has no Python of its own, and there is no python3 on the PATH:" \
            "one is needed to adapt its files to where they are."
    fi
}

# Sets SIZE, of all that comes before the trailer; FILES_KB; LONGEST_PREFIX, which is the longest path
# that fits into the programs, in bytes, or 0 if any does; and SUM, of all that comes before it.
read_trailer() {
    [ -f "$0" ] || fail "Save the installer as a file and run that: it has to read itself."
    trailer=$(tail -c "$TRAILER_BYTES" "$0" | LC_ALL=C tr -cd 'a-z0-9# ')
    case $trailer in
        '# condastore '*' '*' '*' '*) ;;
        *) fail "This file is incomplete. Was its download cut off? Please get it again." ;;
    esac
    read -r SIZE FILES_KB LONGEST_PREFIX SUM <<TRAILER
${trailer#'# condastore '}
TRAILER
    size=$(wc -c <"$0")
    [ "$((size))" -eq "$((SIZE + TRAILER_BYTES))" ] ||
        fail "This file has $((size)) bytes and should have $((SIZE + TRAILER_BYTES)):" \
            "it is damaged. Please get it again."
}

check_sum() {
    summed=$((SIZE + TRAILER_BYTES - SUM_BYTES))
    if has sha256sum; then
        sum=$(head -c "$summed" "$0" | sha256sum)
    elif has shasum; then
        sum=$(head -c "$summed" "$0" | shasum -a 256)
    else
        say "warning: there is neither sha256sum nor shasum, so nothing checks this file" >&2
        return 0
    fi
    [ "${sum%% *}" = "$SUM" ] ||
        fail "This file is damaged: its SHA-256 is not what it was. Please get it again."
}

ask() {
    printf '%s' "$1"
    read -r answer || fail "There was no answer. To be asked nothing, use -b."
}

ask_where() {
    say "$NAME $VERSION needs about $((FILES_KB / 1000)) MB. Where shall it be installed?"
    ask "Press ENTER for this directory, or type another one [$PREFIX] >>> "
    [ -z "$answer" ] || PREFIX=$answer
    case $PREFIX in
        '~/'*) PREFIX=${HOME:-}/${PREFIX#'~/'} ;;
    esac
}

ask_whether() {
    say "$NAME $VERSION will be installed in"
    say "    $PREFIX"
    [ "$EXISTS" = no ] || case $MODE in
        update) say "where it replaces the environment that is there, with all that was added to it." ;;
        *) say "where it overwrites files of the same names." ;;
    esac
    ask "Go on? [yes|no] >>> "
    case $answer in
        [Yy] | [Yy][Ee][Ss]) ;;
        *) fail "Nothing was installed." ;;
    esac
}

# Makes PREFIX absolute, sets EXISTS, and refuses what can't be.
check_prefix() {
    newline='
'
    case $PREFIX in
        '') fail "The prefix is empty." ;;
        *"$newline"* | *:*) fail "The prefix may hold neither a colon nor the end of a line." ;;
        /*) ;;
        *) PREFIX=$PWD/$PREFIX ;;
    esac
    while [ "$PREFIX" != / ] && [ "$PREFIX" != "${PREFIX%/}" ]; do
        PREFIX=${PREFIX%/}
    done
    bytes=$(printf '%s' "$PREFIX" | wc -c)
    if [ "$LONGEST_PREFIX" -gt 0 ] && [ "$((bytes))" -gt "$LONGEST_PREFIX" ]; then
        fail "The prefix has $((bytes)) bytes, and programs of $NAME have room for" \
            "$LONGEST_PREFIX. Please choose a shorter one."
    fi
    EXISTS=no
    if [ -e "$PREFIX" ] || [ -h "$PREFIX" ]; then
        EXISTS=yes
        case $MODE in
            new) fail "$PREFIX exists. Choose another prefix (-p), add to this one (-f)," \
                "or replace the environment that is there (-u)." ;;
            update) [ -d "$PREFIX/conda-meta" ] ||
                fail "$PREFIX is no environment, and so can't be updated." ;;
            *) [ -d "$PREFIX" ] || fail "$PREFIX is no directory." ;;
        esac
        # Where it really is: a link stays a link when what it leads to is replaced.
        PREFIX=$(cd "$PREFIX" && pwd -P) || fail "$PREFIX can't be entered."
    fi
}

check_space() {
    has df && has awk || return 0
    directory=$PREFIX
    while [ ! -d "$directory" ]; do
        directory=${directory%/*}
        directory=${directory:-/}
    done
    free=$(df -Pk "$directory" 2>/dev/null | awk 'NR == 2 { print $(NF - 2) }')
    case $free in
        '' | *[!0-9]*) return 0 ;;
    esac
    [ "$free" -ge "$FILES_KB" ] ||
        fail "$directory has $((free / 1000)) MB left, and $NAME needs $((FILES_KB / 1000)) MB."
}

# Whatever ends the script: a prefix is whole, as it was before, or not there.
undo() {
    status=$?
    trap - 0 1 2 15
    if [ -n "$MADE" ]; then
        rm -rf "$MADE"
    fi
    if [ -n "$OLD" ] && [ -e "$OLD" ] && [ ! -e "$PREFIX" ]; then
        mv "$OLD" "$PREFIX"
    fi
    if [ "$status" -ne 0 ] && [ "$EXISTS" = yes ]; then
        say "warning: $PREFIX was there before, and is now half overwritten" >&2
    fi
    exit "$status"
}

make_prefix() {
    if [ "$EXISTS" = yes ] && [ "$MODE" = update ]; then
        old=$PREFIX.old-$$
        if [ -e "$old" ] || [ -h "$old" ]; then
            fail "$old is in the way; it may be the environment of an update that was killed."
        fi
        # Before it moves: a signal that comes meanwhile is seen after it, and undo must know.
        OLD=$old
        EXISTS=no
        mv "$PREFIX" "$OLD" || fail "$PREFIX can't be moved away."
    fi
    if [ "$EXISTS" = no ]; then
        case $PREFIX in
            ?*/*) mkdir -p "${PREFIX%/*}" || fail "The directory above $PREFIX can't be made." ;;
        esac
        # Not -p: if somebody was faster it is not ours, and not to be removed.
        mkdir "$PREFIX" || fail "$PREFIX can't be made."
        MADE=$PREFIX
        PREFIX=$(cd "$PREFIX" && pwd)
    fi
}

unpack() {
    say "Unpacking $NAME $VERSION into $PREFIX ..."
    tail -c "+$((ARCHIVE_START + 1))" "$0" | head -c "$((SIZE - ARCHIVE_START))" | gzip -dc |
        (cd "$PREFIX" && tar -xf -) || fail "$NAME could not be unpacked."
    [ -f "$PREFIX/bin/conda-unpack" ] || fail "$NAME could not be unpacked completely."
    python=$PREFIX/bin/python
    [ "$PYTHON" = yes ] || python=python3
    # Neither files of the user nor of packages take part, and no byte code is left.
    "$python" -B -E -s -S "$PREFIX/bin/conda-unpack" || fail "$NAME could not be adapted to $PREFIX."
}

finish() {
    MADE=
    if [ -n "$OLD" ]; then
        old=$OLD
        OLD=
        rm -rf "$old" || say "warning: $old, which was there before, could not be removed" >&2
    fi
    quoted=$(printf '%s' "$PREFIX" | sed "s/'/'\\\\''/g")
    say "$NAME $VERSION is installed. To use it in bash or zsh:"
    say "    source '$quoted/bin/activate'"
}

BATCH=no
MODE=new
GIVEN=no
MADE=
OLD=
PREFIX=${HOME:+${HOME%/}/$NAME}
while getopts bp:fush option; do
    case $option in
        b) BATCH=yes ;;
        p) PREFIX=$OPTARG GIVEN=yes ;;
        f) MODE=force ;;
        u) MODE=update ;;
        s) ;;
        h)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
done
shift "$((OPTIND - 1))"
[ "$#" -eq 0 ] || fail "'$1' is not understood. Try -h."
unset CDPATH

check_machine
check_tools
read_trailer
[ "$BATCH" = yes ] || [ "$GIVEN" = yes ] || ask_where
check_prefix
check_space
[ "$BATCH" = yes ] || ask_whether
check_sum
trap undo 0
trap 'exit 129' 1
trap 'exit 130' 2
trap 'exit 143' 15
make_prefix
unpack
finish
exit 0
