#!/usr/bin/env bash
# Runs targets of the Makefile in a clone of this checkout, on a new Debian that has nothing but
# Python, make and git. As root, with debootstrap; a few minutes and 3 GB in TMPDIR.
#
#     tests/bare_debian.sh SUITE [TARGET...]                    (trixie, sid; the target is demo)
#     PACKAGES=gcc,python3-dev tests/bare_debian.sh sid         (... and further packages)
#
# Debian's packages come from where this machine's apt takes them, Python's from where its pip does.
set -euo pipefail
suite=$1
targets=("${@:2}")
packages=python3,python3-venv,make,git,ca-certificates${PACKAGES:+,$PACKAGES}
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | head -n 1)
eval "$(apt-config shell http_proxy Acquire::http::Proxy)"

directory=$(mktemp -d -t bare-debian.XXXXXX)
debian=$directory/debian inside=
trap 'exit 1' INT TERM HUP
trap 'kill -KILL "$inside" 2>/dev/null || true; wait; rm -rf --one-file-system "$directory"' EXIT

# What reaches this machine's package index: names, certificates, pip's settings, and the files and
# directories that these name; an index on disk has its files beside it.
shared_paths() {
    printf '%s\n' /etc/{resolv.conf,hosts,ssl/certs/ca-certificates.crt,pip.conf,xdg/pip} \
        "$HOME"/{.pip,.config/pip}
    { python3 -m pip config list 2>/dev/null || true; } | grep -oE "/[^' ]+" | sed 's|^///|/|' |
        while read -r path; do if [[ -d $path ]]; then dirname "$path"; else echo "$path"; fi; done
}

run_inside() {
    step "debootstrap $suite"
    ${http_proxy:+env http_proxy="$http_proxy"} debootstrap --variant=minbase \
        --include="$packages" "$suite" "$debian" "$mirror" >"$directory/debootstrap.log" 2>&1 ||
        { tail -n 20 "$directory/debootstrap.log"; exit 1; }
    git -c safe.directory='*' clone --quiet --depth 1 "file://$checkout" "$debian/checkout"
    local name path
    for name in dev proc sys; do mount --rbind "/$name" "$debian/$name"; done
    while read -r path; do
        [[ -e $path ]] || continue
        if [[ -d $path ]]; then
            mkdir -p "$debian/$path"
        else
            mkdir -p "$debian/${path%/*}"
            touch "$debian/$path"
        fi
        mount --bind "$path" "$debian/$path"
    done < <(shared_paths | sort -u)
    mapfile -d '' -t settings < <(env --null | grep --null-data --extended-regexp \
        '^(PIP_|UV_|SSL_CERT|REQUESTS_CA_BUNDLE|[a-zA-Z]+_(proxy|PROXY)=)')
    for name in "${targets[@]:-demo}"; do
        step "make $name, $(chroot "$debian" python3 --version)"
        chroot "$debian" env --ignore-environment "${settings[@]}" HOME="$HOME" LANG=C.UTF-8 \
            PATH=/usr/sbin:/usr/bin:/sbin:/bin make --directory /checkout "$name"
    done
    step "done: .venv has $(find "$debian"/checkout/.venv -name '*.dist-info' | wc -l) packages," \
        "$(du --summarize --block-size=MB "$debian/checkout/.venv" | cut -f 1)"
}

step() {
    printf -- '--- %s, after %d s\n' "$*" "$SECONDS"
}

# In a namespace of its own, so that mounts and processes end with this script, however it ends.
export suite packages checkout mirror directory debian
export -f shared_paths step run_inside
setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc \
    bash -euo pipefail -c 'targets=("$@"); run_inside' bash "${targets[@]}" &
inside=$!
wait "$inside"
