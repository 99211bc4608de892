# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Write a store with one verified snapshot, by the store's own code; run on a machine.

Prints JSON: `published`, what the role model_download publishes, and `sha256` of each shard.

Argument: the store. Beside the snapshot lies a file that nobody but root may read, as a token would.
"""

import hashlib
import json
import sys

from dgx_spark_node.hub.store import FileEntry, Manifest, Store, digest_many, make_folder

REPO_ID = "dgx-spark/shared"
COMMIT = hashlib.sha1(REPO_ID.encode(), usedforsecurity=False).hexdigest()
# MiB of each shard: read for a few seconds by an emulated machine.
SHARD_MIB = 64
NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def content(name: str) -> bytes:
    """Return a shard in which no two MiB are alike."""
    return b"".join(hashlib.sha256(f"{name} {number}".encode()).digest() * 32768 for number in range(SHARD_MIB))


store = Store(sys.argv[1])
folder = store.snapshot(REPO_ID, COMMIT)
make_folder(folder)
for name in NAMES:
    (folder / name).write_bytes(content(name))
    (folder / name).chmod(0o644)
(folder / "config.json").write_text("{}\n", encoding="ascii")
(folder / "config.json").chmod(0o644)
sizes = [FileEntry(path.name, path.stat().st_size) for path in sorted(folder.iterdir())]
seen = digest_many(folder, sizes)
manifest = Manifest(REPO_ID, COMMIT, tuple(FileEntry(one.path, one.size, seen[one.path].sha256) for one in sizes))
store.write_manifest(manifest)
store.stamp(manifest, "sha256")
secret = store.repo(REPO_ID) / "secret"
secret.write_text("for root alone\n", encoding="ascii")
secret.chmod(0o600)
result = {"repo_id": REPO_ID, "revision": "main", "commit": COMMIT, "manifest_sha256": manifest.sha256}
published = {**result, "path": str(folder), "verified": True}
print(json.dumps({"published": published, "sha256": {name: seen[name].sha256 for name in NAMES}}))
