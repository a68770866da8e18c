#!/bin/sh
# Install this checkout and everything it needs, as pinned with hashes in requirements.lock, into a virtual environment.
#
#     deploy/setup.sh FOLDER          PYTHON=python3.12 deploy/setup.sh FOLDER
#
# uv installs in seconds; it does not read pip's configuration, so that what pip is told about indexes is handed on to it. Where it
# cannot be had or does not get through, pip does the same from the same file, slower.
set -eu

venv=$1
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "setup: Python 3.11 or newer is needed; '$python' is none (name another: make setup PYTHON=python3.12)" >&2
    exit 1
fi
if [ ! -x "$venv/bin/python" ] && ! "$python" -m venv "$venv"; then
    echo "setup: '$python -m venv $venv' failed; Debian and Ubuntu have it in the package python3-venv" >&2
    exit 1
fi
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# The value of one of pip's settings, from its files or the environment.
told() { pip config list 2>/dev/null | sed -n "s/^[^.]*\.$1='\(.*\)'\$/\1/p" | tail -n 1; }

# uv as the lock file pins it: its own lines, up to the next package.
uv_lines=$(mktemp)
trap 'rm -f "$uv_lines"' EXIT
sed -n '/^uv==/,/^[a-z]/{/^uv==/p;/^    --hash/p;}' requirements.lock >"$uv_lines"

with_uv() {
    pip install --quiet --require-hashes --no-deps -r "$uv_lines" || return 1
    first=$(told 'index.url') more=$(told 'extra.index.url') folders=$(told 'find.links')
    [ -z "$first" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$first}"
    [ -z "$more" ] || export UV_INDEX="${UV_INDEX:-$more}"
    [ -z "$folders" ] || export UV_FIND_LINKS="${UV_FIND_LINKS:-$folders}"
    # Hashes decide what may be installed; whichever index has it may give it.
    UV_INDEX_STRATEGY=unsafe-first-match UV_HTTP_RETRIES=1 \
        "$venv/bin/uv" pip sync --quiet --require-hashes --python "$venv/bin/python" requirements.lock
}

if ! with_uv; then
    echo "setup: uv did not get through; going on with pip, which takes longer" >&2
    pip install --quiet --require-hashes -r requirements.lock
fi
# Build tools are in the lock as well, so that nothing unpinned is fetched for building this project.
pip install --quiet --no-build-isolation --no-deps --editable .
echo "setup: installed into $venv"
