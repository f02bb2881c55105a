#!/bin/sh
# Makes fixtures.json: keys, and what other packages store of them. Needs node with npm, and python3 with pip; installs into
# a folder of its own, which it removes.
#
#   conformance/tests/across/imports/generate.sh
#
# Of the packages themselves: better-auth, djangorestframework-api-key (before and after it changed its hash), Django, bcrypt,
# argon2-cffi, and node's crypto. By their documented algorithms: Unkey, whose hash is not published as a package, and Laravel
# Sanctum, which would need PHP. Slow hashes are made with few rounds, so that tests are fast.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/generate.mjs" "$here/generate.py" "$work"
cd "$work"

npm init -y >/dev/null
npm install --silent --legacy-peer-deps better-auth@1.5.6 @better-auth/api-key@1.5.6 @opentelemetry/api >/dev/null
node generate.mjs >node.json

for version in 2.3.0 3.1.0; do
    python3 -m venv "v$version"
    "v$version/bin/pip" install -q Django==5.2.* djangorestframework "djangorestframework-api-key==$version" \
        setuptools bcrypt argon2-cffi
    "v$version/bin/python" generate.py "$version" >"python-$version.json"
done
python3 - node.json python-*.json >"$here/fixtures.json" <<'PYTHON'
import json, sys
keys = [key for name in sys.argv[1:] for key in json.load(open(name))]
print(json.dumps(keys, indent=2))
PYTHON
