# Functions that scripts/demo, scripts/test and .ci/run share. Source it from the repository's root, under `set -euo pipefail`.
# shellcheck shell=bash

indent() {
    sed 's/^/    /'
}

say() {
    printf '==> %s\n' "$*"
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Fails, naming it, if a tool that only the user can choose how to install is missing.
require_tools() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust, see https://rustup.rs"
    command -v cc >/dev/null || fail "a C compiler is missing: install gcc or clang"
}

# The Vulkan loader complains about an unset XDG_RUNTIME_DIR. $1: a folder that the caller removes.
set_runtime_dir() {
    if [[ -z ${XDG_RUNTIME_DIR:-} ]]; then
        mkdir -m 700 "$1/xdg"
        export XDG_RUNTIME_DIR="$1/xdg"
    fi
}

# Asks Vulkan itself whether it has a device; prints what it said. $1: a folder for the small program that asks.
vulkan_has_device() {
    cc -o "$1/vulkan_devices" scripts/lib/vulkan_devices.c -ldl
    "$1/vulkan_devices" 2>/dev/null
}

# Runs a command as root: as it is, or by sudo where that asks nothing.
as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@" </dev/null
    else
        sudo -n "$@" </dev/null
    fi
}

# Prints the commands, one a line, that install Mesa's software Vulkan driver here.
driver_commands() {
    if command -v apt-get >/dev/null; then
        echo "apt-get update -q"
        echo "env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends libvulkan1 mesa-vulkan-drivers"
    elif command -v dnf >/dev/null; then
        echo "dnf install -qy vulkan-loader mesa-vulkan-drivers"
    elif command -v pacman >/dev/null; then
        echo "pacman -Sy --needed --noconfirm vulkan-icd-loader vulkan-swrast"
    fi
}

# Makes sure that Vulkan has a device: a GPU's, or else Mesa's software driver, which it installs if need be.
# $1: a folder for temporary files.
ensure_vulkan() {
    local found commands command
    if found=$(vulkan_has_device "$1"); then
        say "Found $found."
        return
    fi
    commands=$(driver_commands)
    [[ -n $commands ]] || fail "found $found; install a Vulkan driver and loader (Mesa's software driver will do)"
    if [[ $(id -u) != 0 ]] && ! sudo -n true 2>/dev/null; then
        printf 'Found %s. Install one as root, then run this again:\n' "$found" >&2
        indent <<<"$commands" >&2
        exit 1
    fi
    say "Found $found. Installing Mesa's software driver:"
    indent <<<"$commands"
    while read -ra command; do
        as_root "${command[@]}" >"$1/install.log" 2>&1 || { cat "$1/install.log" >&2; fail "${command[*]}"; }
    done <<<"$commands"
    found=$(vulkan_has_device "$1") || fail "the driver is installed, but Vulkan still says: $found"
    say "Found $found."
}
