# The Python environment of this clone: .venv, made when it is first needed.
#
# Sourced by the scripts beside it, with `root` set to the clone's folder without symlinks.
# `ensure_env run` gives mlog and what it needs, `ensure_env dev` the tools of the tests too.
#
# A stamp in .venv says for which pyproject.toml and constraints.txt, in which folder, an
# installation was completed. Where it matches, ensure_env costs one `cksum` and changes nothing.
# .venv/.incomplete stands while something is being installed: a run that finds it without an
# installer at work throws .venv away and starts again.

venv=$root/.venv
lock=$root/.venv.lock
LOCK_WAIT_MAX_S=900 # a first installation on a slow line
LOG_LINES_SHOWN=15

ensure_env() {
    wanted=$(cksum "$root/pyproject.toml" "$root/constraints.txt") || exit 1
    if ! env_ready "$1"; then
        set_up "$1" || exit
    fi
}

# Builtins only: this runs at each call.
env_ready() {
    [ ! -e "$venv/.incomplete" ] && [ -x "$venv/bin/python" ] && [ -x "$venv/bin/mlog" ] || return 1
    read_stamp "$1"
    [ "$stamp" = "$wanted" ]
}

read_stamp() {
    stamp='' line=''
    [ -r "$venv/.stamp-$1" ] || return 0
    { IFS= read -r stamp && IFS= read -r line; } <"$venv/.stamp-$1" || :
    stamp="$stamp
$line"
}

set_up() (
    log=
    take_lock
    trap 'release_lock; [ -z "$log" ] || rm -f "$log"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # Whoever held the lock before may have done the work.
    if env_ready "$1"; then
        exit 0
    fi
    log=$(mktemp) || exit 1

    if can_update "$1"; then
        say "updating the Python environment in .venv…"
        : >"$venv/.incomplete"
        if ! { have_uv && uv_install "$1"; } && ! pip_install "$1"; then
            # Packages that could not be fetched change nothing: the next call tries again.
            rm -f "$venv/.incomplete"
            fail_with_log
        fi
    else
        python=$(find_python) || have_uv || {
            say "no Python 3.11 or 3.12 found: install one (or uv, which can fetch it), then run this again"
            exit 1
        }
        say "setting up a Python environment in .venv (once, about a minute)…"
        make_with_uv "$1" || make_with_pip "$1" || fail_with_log
    fi

    printf '%s\n' "$wanted" >"$venv/.stamp-$1"
    # What the tests need includes what mlog needs.
    [ "$1" != dev ] || printf '%s\n' "$wanted" >"$venv/.stamp-run"
    rm -f "$venv/.incomplete"
)

# An environment that was completed in this very folder (its scripts name the folder).
can_update() {
    [ ! -e "$venv/.incomplete" ] || return 1
    "$venv/bin/python" -c "$PYTHON_FITS" 2>/dev/null || return 1
    for kind in dev run; do
        read_stamp "$kind"
        case $stamp in *" $root/pyproject.toml"*) return 0 ;; esac
    done
    return 1
}

make_with_uv() {
    have_uv || return 1
    start_over
    uv venv --quiet --no-project --allow-existing --python '>=3.11,<3.13' "$venv" >>"$log" 2>&1 && uv_install "$1"
}

# Also where uv found no interpreter or no package index: pip may be configured for another one.
make_with_pip() {
    if [ -z "$python" ]; then
        say "no Python 3.11 or 3.12 found, and uv could not set one up:" && return 1
    fi
    start_over
    "$python" -m venv "$venv" >>"$log" 2>&1 && pip_install "$1"
}

start_over() {
    rm -rf "$venv" && mkdir "$venv" && : >"$venv/.incomplete" || exit 1
}

have_uv() {
    command -v uv >/dev/null 2>&1
}

uv_install() {
    uv pip install --quiet --python "$venv/bin/python" --compile-bytecode \
        --constraint "$root/constraints.txt" --editable "$(distribution "$1")" >>"$log" 2>&1
}

pip_install() {
    PIP_USER=0 "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --constraint "$root/constraints.txt" --editable "$(distribution "$1")" >>"$log" 2>&1
}

distribution() {
    case $1 in dev) echo "$root[dev]" ;; *) echo "$root" ;; esac
}

PYTHON_FITS='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'

# Each folder on the PATH, since the first python3.12 may be a pyenv shim that refuses to run;
# then what pyenv has installed without having it selected.
find_python() {
    for name in python3 python3.12 python3.11; do
        IFS=:
        for dir in $PATH; do
            python_fits "$dir/$name" && return 0
        done
        unset IFS
    done
    for dir in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[12].*/bin; do
        python_fits "$dir/python3" && return 0
    done
    return 1
}

python_fits() {
    [ -x "$1" ] && "$1" -c "$PYTHON_FITS" >/dev/null 2>&1 && printf '%s\n' "$1"
}

# One installer at a time. Where there is flock the system frees the lock of a killed run; elsewhere
# (macOS) the lock is a folder that holds the process id of its owner.
take_lock() {
    waited_s=0
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$lock" || exit 1
        lock_try() { flock -n 9; }
        release_lock() { :; }
    else
        lock_try() { lock_folder_try; }
        release_lock() { rm -rf "$lock.d"; }
    fi
    until lock_try; do
        [ "$waited_s" -ne 0 ] || say "waiting for another run that is setting up .venv…"
        if [ "$waited_s" -ge "$LOCK_WAIT_MAX_S" ]; then
            say "gave up waiting for .venv: if no other run is at work, remove $lock* and run this again"
            exit 1
        fi
        sleep 1
        waited_s=$((waited_s + 1))
    done
}

lock_folder_try() {
    if mkdir "$lock.d" 2>/dev/null; then
        # $$ is the script's id, also in a subshell.
        echo $$ >"$lock.d/pid"
        return 0
    fi
    # Only one waiter may break a lock, and looks again at whose it is: it may be new since.
    if lock_owner_gone && mkdir "$lock.d/broken" 2>/dev/null; then
        if lock_owner_gone; then
            rm -rf "$lock.d"
        else
            rmdir "$lock.d/broken"
        fi
    fi
    return 1
}

lock_owner_gone() {
    read -r owner 2>/dev/null <"$lock.d/pid" && ! kill -0 "$owner" 2>/dev/null
}

fail_with_log() {
    tail -n "$LOG_LINES_SHOWN" "$log" >&2
    say "could not set up .venv: see above; it needs Python 3.11 or 3.12 and a package index in reach. Then run this again"
    exit 1
}

say() {
    printf 'mlog: %s\n' "$*" >&2
}
