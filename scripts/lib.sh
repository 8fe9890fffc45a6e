# shellcheck shell=bash
# Shared by the scripts in this folder: `. "$(dirname "$0")/lib.sh"`. Defines functions and $ROOT; does nothing by itself.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export ROOT

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

require_root() {
    [ "$(id -u)" -eq 0 ] || die "$1 must run as root: $2"
}

require_cargo() {
    # shellcheck source=/dev/null
    command -v cargo >/dev/null 2>&1 || { [ -r "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"; }
    command -v cargo >/dev/null 2>&1 || die "cargo is not on PATH: install Rust 1.91 or newer first"
}

# packages_of TAG… prints the packages that scripts/packages lists under these tags.
packages_of() {
    local tag
    for tag in "$@"; do
        awk -v tag="$tag" '{ sub(/#.*/, "") } $1 == tag { for (i = 2; i <= NF; i++) print $i }' "$ROOT/scripts/packages"
    done
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install_missing TAG… installs what scripts/packages lists under these tags and this machine lacks; silent when there is nothing to do.
install_missing() {
    local missing=() package
    command -v dpkg-query >/dev/null 2>&1 ||
        die "not a Debian system: install the equivalents of '$(packages_of "$@" | xargs)' yourself and set FRAMEWIRE_NO_INSTALL=1"
    while read -r package; do
        is_installed "$package" || missing+=("$package")
    done < <(packages_of "$@")
    [ ${#missing[@]} -eq 0 ] && return 0
    [ "$(id -u)" -eq 0 ] || die "missing packages: ${missing[*]}; run as root, or: apt-get install ${missing[*]}"
    say "installing: ${missing[*]}"
    local log
    log=$(mktemp)
    # An out-of-date list is worth a try: what is missing may still install from it.
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$log" 2>&1 || warn "apt-get update failed: $(tail -n 1 "$log")"
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install: ${missing[*]}"
    fi
    rm -f "$log"
}

# ensure_packages TAG… is install_missing unless FRAMEWIRE_NO_INSTALL=1.
ensure_packages() {
    [ "${FRAMEWIRE_NO_INSTALL:-0}" = 1 ] || install_missing "$@"
}

# --- what must go away at exit ---------------------------------------------------------------------------------------

_namespaces=()
_pids=()
_folders=()

# make_namespace NAME creates a namespace that cleanup removes. Put $$ into NAME so that two runs never meet.
make_namespace() {
    ip netns add "$1" || die "cannot create the network namespace $1 (it needs CAP_SYS_ADMIN and CAP_NET_ADMIN)"
    _namespaces+=("$1")
}

# own_pid PID has cleanup end this process; own_folder DIR has it removed.
own_pid() { _pids+=("$1"); }
own_folder() { _folders+=("$1"); }

cleanup() {
    local item pid
    # What is gone already must not keep the rest from going.
    set +e
    for item in "${_pids[@]}"; do
        kill -TERM "$item" 2>/dev/null || continue
        for _ in {1..30}; do kill -0 "$item" 2>/dev/null && sleep 0.1; done
        kill -KILL "$item" 2>/dev/null
    done
    for item in "${_namespaces[@]}"; do
        # Whatever still runs in a namespace of ours was started there by us.
        for pid in $(ip netns pids "$item" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
        ip netns del "$item" 2>/dev/null
    done
    for item in "${_folders[@]}"; do rm -rf -- "$item"; done
    _pids=() _namespaces=() _folders=()
}

cleanup_on_exit() {
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}
