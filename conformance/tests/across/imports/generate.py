"""What PyPI's packages store of keys."""

import hashlib
import json
import secrets
import string
import sys
import zlib

import django
from django.conf import settings

version = sys.argv[1]
settings.configure(
    SECRET_KEY="x" * 50,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework_api_key"],
    PASSWORD_HASHERS=[
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.Argon2PasswordHasher",
        "django.contrib.auth.hashers.BCryptPasswordHasher",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    USE_TZ=True,
)
django.setup()

from django.contrib.auth import hashers  # noqa: E402

# As always, but for the number of rounds.
hashers.PBKDF2PasswordHasher.iterations = 1000
hashers.Argon2PasswordHasher.time_cost = 1
hashers.Argon2PasswordHasher.memory_cost = 256
hashers.Argon2PasswordHasher.parallelism = 2
hashers.BCryptPasswordHasher.rounds = 4

keys = []


def add(source, method, key, hash, **more):
    keys.append({"from": source, "method": method, "key": key, "hash": hash, **more})


from django.core.management import call_command  # noqa: E402
from rest_framework_api_key.models import APIKey  # noqa: E402

call_command("migrate", verbosity=0)
for n in range(2):
    row, key = APIKey.objects.create_key(name=f"key {n}")
    assert APIKey.objects.is_valid(key), key
    row = APIKey.objects.get(pk=row.pk)
    method = "sha512" if row.hashed_key.startswith("sha512$$") else "slow"
    add(f"djangorestframework-api-key {version}", method, key, row.hashed_key, start=row.prefix)

if version.startswith("3."):
    alphabet = string.ascii_letters + string.digits

    def random(length):
        return "".join(secrets.choice(alphabet) for _ in range(length))

    # Laravel Sanctum: the id, and 40 random characters with their CRC-32 behind; only the part behind the id is hashed.
    for id in (1, 42):
        entropy = random(40)
        token = entropy + format(zlib.crc32(entropy.encode()), "08x")
        add("Laravel Sanctum", "sanctum", f"{id}|{token}", hashlib.sha256(token.encode()).hexdigest(), id=str(id))

    import argon2
    import bcrypt

    def started():
        start = random(8)
        return start, f"{start}.{random(32)}"

    for prefix in (b"2b", b"2a"):
        start, key = started()
        hash = bcrypt.hashpw(key.encode(), bcrypt.gensalt(4, prefix)).decode()
        add(f"bcrypt {bcrypt.__version__}", "slow", key, hash, start=start)
    for kind in argon2.Type:
        start, key = started()
        hasher = argon2.PasswordHasher(time_cost=2, memory_cost=64, parallelism=2, type=kind)
        add(f"argon2-cffi, {kind.name}", "slow", key, hasher.hash(key), start=start)
    for algorithm in ("pbkdf2_sha256", "argon2", "bcrypt"):
        start, key = started()
        add(f"Django, {algorithm}", "slow", key, hashers.make_password(key, hasher=algorithm), start=start)

print(json.dumps(keys))
