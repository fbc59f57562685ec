#!/usr/bin/env bash
# Installs what building, booting and testing gzero needs. May be run again at any time; asks nothing.
#
#   ./setup.sh          all but the next
#   ./setup.sh --peer   also what `cargo bench -- --peer go` needs: Go 1.23, and a Linux kernel in target/peer
set -euo pipefail
cd "$(dirname "$0")"

peer=no
case "${1:-}" in
--peer) peer=yes ;;
"") ;;
*) echo "setup: unknown option $1; there is --peer" >&2 && exit 2 ;;
esac

qemu_wanted=9   # the first QEMU whose emulated CPUs have x2APIC and whose boards hold more than 255 of them

say() { echo "setup: $*"; }
have() { command -v "$1" >/dev/null 2>&1; }

qemu_major() {
    local major
    major=$(qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.*version \([0-9]*\).*/\1/p') || true
    echo "${major:-0}"
}

# A folder with the firmware's code and its variables, by the names and places of the known distributions.
ovmf() {
    local folder
    [ -n "${GZERO_OVMF:-}" ] && [ -e "$GZERO_OVMF" ] && return 0
    for folder in /usr/share/OVMF /usr/share/edk2/ovmf /usr/share/edk2/x64 /usr/share/edk2-ovmf/x64 \
        /usr/share/ovmf/x64 /usr/share/qemu /opt/homebrew/share/qemu /usr/local/share/qemu /usr/share/edk2-ovmf; do
        if { [ -e "$folder/OVMF_CODE_4M.fd" ] && [ -e "$folder/OVMF_VARS_4M.fd" ]; } ||
            { [ -e "$folder/OVMF_CODE.4m.fd" ] && [ -e "$folder/OVMF_VARS.4m.fd" ]; } ||
            { [ -e "$folder/OVMF_CODE.fd" ] && [ -e "$folder/OVMF_VARS.fd" ]; } ||
            { [ -e "$folder/ovmf-x86_64-code.bin" ] && [ -e "$folder/ovmf-x86_64-vars.bin" ]; } ||
            { [ -e "$folder/edk2-x86_64-code.fd" ] && [ -e "$folder/edk2-i386-vars.fd" ]; }; then
            return 0
        fi
    done
    return 1
}

# --- system packages ---------------------------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    elif have sudo; then
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    else
        say "needs root for: $*; become root or install sudo"
        return 1
    fi
}

# Debian 12's own QEMU is 7.2: x2APIC and many CPUs come with the one of its backports.
add_backports() {
    local list=/etc/apt/sources.list.d/gzero-backports.list
    local line="deb http://deb.debian.org/debian bookworm-backports main"
    if grep -rqs bookworm-backports /etc/apt/sources.list /etc/apt/sources.list.d; then
        return 0
    fi
    say "adding $list: $line"
    echo "$line" | as_root tee "$list" >/dev/null
}

apt_packages() {
    local distribution=$1 release=$2 missing=() backports=no
    if [ "$distribution $release" = "debian 12" ] && [ "$(qemu_major)" -lt "$qemu_wanted" ]; then
        backports=yes
    fi
    if ! have qemu-system-x86_64 || [ "$backports" = yes ]; then missing+=(qemu-system-x86); fi
    ovmf || missing+=(ovmf)
    have cc || missing+=(gcc libc6-dev)
    have c++ || missing+=(g++)
    have curl || have rustup || missing+=(curl ca-certificates)
    if [ ${#missing[@]} -eq 0 ]; then
        say "system packages: all there"
        return 0
    fi
    if [ "$backports" = yes ]; then add_backports || backports=no; fi
    say "apt-get update"
    # a source that cannot be reached must not stop the others
    as_root apt-get update -q || say "apt-get update failed in part; going on with what is known"
    if [ "$backports" = yes ] && apt-cache policy 2>/dev/null | grep -q bookworm-backports; then
        say "installing ${missing[*]}, QEMU from bookworm-backports"
        if as_root apt-get install -y -q --no-install-recommends -t bookworm-backports "${missing[@]}"; then
            return 0
        fi
        say "bookworm-backports cannot be used"
    fi
    if have qemu-system-x86_64; then
        local stock=()
        local package
        for package in "${missing[@]}"; do [ "$package" = qemu-system-x86 ] || stock+=("$package"); done
        missing=("${stock[@]}")
    fi
    [ ${#missing[@]} -eq 0 ] && return 0
    say "installing ${missing[*]}"
    as_root apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# Elsewhere we do not touch the system: the command is for the user to run.
print_command() {
    if have qemu-system-x86_64 && ovmf && have cc; then
        say "system packages: all there"
    else
        say "install the system packages by: $1"
    fi
}

system_packages() {
    local ID="" ID_LIKE="" VERSION_ID=""
    if [ "$(uname -s)" = Darwin ]; then
        # Homebrew's QEMU brings the UEFI firmware along
        print_command "xcode-select --install; brew install qemu"
        return
    fi
    if [ -r /etc/os-release ]; then
        # shellcheck disable=SC1091
        . /etc/os-release
    fi
    case " $ID $ID_LIKE " in
    *" debian "* | *" ubuntu "*) apt_packages "$ID" "$VERSION_ID" ;;
    *" fedora "*) print_command "sudo dnf install -y qemu-system-x86-core edk2-ovmf gcc" ;;
    *" arch "*) print_command "sudo pacman -S --needed --noconfirm qemu-system-x86 edk2-ovmf gcc" ;;
    *) print_command "your package manager (qemu-system-x86_64 $qemu_wanted or newer, OVMF or edk2, a C compiler)" ;;
    esac
}

# --- Rust --------------------------------------------------------------------------------------------------------

rust_toolchain() {
    if ! have rustup && [ -x "$HOME/.cargo/bin/rustup" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    if ! have rustup; then
        say "rustup is missing; install it from https://rustup.rs and run this again"
        return 0
    fi
    say "toolchain of rust-toolchain.toml, with target and components"
    # without a name it reads the file, and it works where RUSTUP_AUTO_INSTALL=0
    rustup toolchain install --no-self-update || say "rustup could not install the toolchain"
}

# --- the peer of the benchmarks ----------------------------------------------------------------------------------

# 1.23 or newer, at the place where the benchmarks look for it
peer_go() {
    local go version
    go=/usr/lib/go-1.23/bin/go
    [ -x "$go" ] || go=go
    version=$("${GZERO_GO:-$go}" version 2>/dev/null | sed -n 's/.* go1\.\([0-9]*\).*/\1/p') || true
    [ "${version:-0}" -ge 23 ]
}

peer_kernel() {
    if [ -n "${GZERO_LINUX:-}" ]; then
        [ -s "$GZERO_LINUX" ]
    else
        compgen -G "${CARGO_TARGET_DIR:-target}/peer/linux/boot/vmlinuz-*" >/dev/null
    fi
}

install_go() {
    local ID="" VERSION_ID="" from=()
    # shellcheck disable=SC1091
    [ ! -r /etc/os-release ] || . /etc/os-release
    if [ "$ID $VERSION_ID" = "debian 12" ]; then
        add_backports || return 0
        from=(-t bookworm-backports)
    fi
    say "installing golang-1.23-go"
    as_root apt-get update -q || say "apt-get update failed in part; going on with what is known"
    as_root apt-get install -y -q --no-install-recommends "${from[@]}" golang-1.23-go || say "Go could not be installed"
}

kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1
}

# Debian's kernel for virtual machines, unpacked and not installed.
unpack_kernel() {
    local folder=${CARGO_TARGET_DIR:-target}/peer package
    package=$(kernel_package)
    if [ -z "$package" ]; then
        as_root apt-get update -q || say "apt-get update failed in part; going on with what is known"
        package=$(kernel_package)
    fi
    if [ -z "$package" ]; then
        say "apt knows no linux-image-cloud-amd64"
        return 0
    fi
    say "unpacking $package in $folder/linux"
    rm -rf "$folder/packages"
    mkdir -p "$folder/packages" "$folder/linux"
    if ! (cd "$folder/packages" && apt-get download -q "$package"); then
        say "$package cannot be downloaded"
        return 0
    fi
    dpkg-deb -x "$folder/packages/$package"_*.deb "$folder/linux"
    rm -r "$folder/packages"
}

peer_packages() {
    if peer_go && peer_kernel; then
        say "the peer: all there"
    elif ! have apt-get; then
        say "the peer: only Debian's packages are known here; see what is missing below"
    else
        peer_go || install_go
        peer_kernel || unpack_kernel
    fi
}

# --- what is missing now -----------------------------------------------------------------------------------------

missing=0
need() {
    local what=$1
    shift
    if ! "$@" >/dev/null 2>&1; then
        say "missing: $what"
        missing=1
    fi
}
has_component() { rustup component list --installed | grep -q "^$1"; }
has_target() { rustup target list --installed | grep -qx x86_64-unknown-none; }

check() {
    need "rustup (https://rustup.rs)" have rustup
    need "cargo (comes with rustup; is ~/.cargo/bin in PATH?)" cargo --version
    need "Rust target x86_64-unknown-none (rustup toolchain install)" has_target
    local component
    for component in rustfmt clippy rust-src llvm-tools; do
        need "Rust component $component (rustup toolchain install)" has_component "$component"
    done
    need "qemu-system-x86_64 (package qemu-system-x86)" qemu-system-x86_64 --version
    need "UEFI firmware OVMF (package ovmf or edk2-ovmf, or set GZERO_OVMF)" ovmf
    need "C linker cc (package gcc)" have cc
    need "C++ compiler c++ (package g++)" have c++
    if [ "$peer" = yes ]; then
        need "Go 1.23 or newer (package golang-1.23-go, or name one by GZERO_GO)" peer_go
        need "a Linux kernel for the peer (Debian's linux-image-cloud-amd64, or name a vmlinuz by GZERO_LINUX)" peer_kernel
    fi
    if [ "$missing" -ne 0 ]; then
        say "not ready"
        exit 1
    fi
    if [ "$(qemu_major)" -lt "$qemu_wanted" ]; then
        say "QEMU is older than $qemu_wanted: no x2APIC and at most 255 CPUs; all else works"
    fi
    say "ready; try: cargo run"
}

system_packages || say "the system packages could not be installed"
rust_toolchain
[ "$peer" = no ] || peer_packages
check
