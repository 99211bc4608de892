# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The mutations: where a small mistake would cost the most. Each says which tests notice it, so that it runs in seconds.

Where code moves, its mutation moves along: `old` is in `file` exactly once. A mutation that no test notices asks for a better test.
"""

from __future__ import annotations

from dataclasses import dataclass

_UTILS = "plugins/module_utils"
_TESTS = "tests/unit/plugins/module_utils"
_MODULES = "tests/unit/plugins/modules"


@dataclass(frozen=True)
class Mutation:
    """One mistake: what it would mean for a user, the file, the text that is replaced, by what, and the tests that fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _in(file: str, tests: str, *mistakes: tuple[str, str, str]) -> list[Mutation]:
    """Return mistakes in one file that the same tests notice; several tests are parted by a blank."""
    return [Mutation(name, file, old, new, tuple(tests.split())) for name, old, new in mistakes]


_GATES = _in(
    f"{_UTILS}/service/gates.py",
    f"{_TESTS}/service/test_gates.py",
    (
        "gates: a port that is closed counts as open",
        "with socket.create_connection((address, port), timeout=5):\n            return",
        "with contextlib.suppress(OSError):\n            return",
    ),
    (
        "gates: weights that cannot be judged pass",
        'return f"the weights {snapshot} cannot be judged: {error}"',
        'return ""',
    ),
    (
        "gates: memory is taken in MB",
        "figures[name] = int(rest.split()[0]) / 2**20",
        "figures[name] = int(rest.split()[0]) / 10**6",
    ),
    ("gates: less memory than needed passes", "if available >= need:", "if available >= need - 1:"),
    (
        "gates: a mount of another server passes",
        "if desired is None or desired.server != server:",
        "if desired is None:",
    ),
    (
        "gates: a mount is touched although its server is gone",
        "if closed := (port or port_obstacle)(server, PORT):",
        "if closed := False:",
    ),
    ("gates: a foreign mount stays", "(not answer and mount_differences(desired, seen))", "False"),
    ("gates: one bad answer of Ray ends the start", ">= _LOST_S:", ">= 0:"),
    ("gates: a lost rank is waited for", "elif clock() - lost_since >= _LOST_S:", "elif False:"),
    ("gates: the end of the server is not seen", "if ended := process():", "if ended := False:"),
    (
        "gates: a start has ten times its time limit",
        "if clock() - start > timeout_s:",
        "if clock() - start > 10 * timeout_s:",
    ),
    (
        "gates: a failed proof ends with 0",
        'say(f"failed: {error}")\n        return 1',
        'say(f"failed: {error}")\n        return 0',
    ),
    ("gates: a gate opens at the first look", "while text := obstacle():", "if text := obstacle():"),
)

_STORE = [
    *_in(
        f"{_UTILS}/hub/store.py",
        f"{_TESTS}/service/test_gates.py",
        (
            "store: the weights gate takes a stamp of another manifest",
            "if known.stamp is None or not known.stamp.proves(known.manifest, METHODS[0]):\n            return f",
            "if known.stamp is None:\n            return f",
        ),
        (
            "store: the weights gate takes weights without a stamp",
            "if known.stamp is None or not known.stamp.proves(known.manifest, METHODS[0]):\n            return f",
            "if known.stamp is not None and not known.stamp.proves(known.manifest, METHODS[0]):\n            return f",
        ),
        (
            "store: the weights gate does not look at the time of change",
            "mark[:2] != tuple(known.stamp.marks.get(entry.path, ()))[:2]",
            "mark[:1] != tuple(known.stamp.marks.get(entry.path, ()))[:1]",
        ),
        (
            "store: the weights gate overlooks a missing file",
            'wrong.append(f"{entry.path} is missing")\n                continue',
            "continue",
        ),
    ),
    *_in(
        f"{_UTILS}/hub/store.py",
        f"{_TESTS}/hub/test_store.py",
        (
            "store: a stamp proves any manifest",
            "return self.manifest_sha256 == manifest.sha256 and METHODS",
            "return METHODS",
        ),
        (
            "store: a weaker proof counts as a stronger one",
            "METHODS.index(self.method) >= METHODS.index(method)",
            "METHODS.index(self.method) <= METHODS.index(method)",
        ),
        ("store: a damaged manifest is believed", 'if digest != data["digest"] or names', "if names"),
        ("store: a name that climbs out is taken", 'any(part in ("", ".", "..") or', 'any(part in ("",) or'),
        (
            "store: what changed since it was proven is verified",
            "look.missing + sorted(look.damaged) + look.unproven",
            "look.missing",
        ),
    ),
]

_SECRETS = _in(
    f"{_UTILS}/node/secret_files.py",
    f"{_MODULES}/test_node_modules.py",
    (
        "secrets: for the group as well",
        "FOLDER_MODE, FILE_MODE = 0o700, 0o400",
        "FOLDER_MODE, FILE_MODE = 0o700, 0o440",
    ),
    ("secrets: the folder is open", "folder.chmod(FOLDER_MODE)", "folder.chmod(0o755)"),
    ("secrets: generated again by each run", "return self.value or present or", "return self.value or"),
    ("secrets: a given one is not taken", "return self.value or present or", "return present or self.value or"),
    ("secrets: short ones are taken", "len(self.value) < MIN_LENGTH", "len(self.value) < 2"),
    ("secrets: a name that climbs out is taken", "if not _NAME.match(self.name):", "if False:"),
    ("secrets: an open file stays open", "status.st_mode & 0o777 == mode and", ""),
    ("secrets: a file of another user stays his", " and status.st_uid == OWNER[0]", ""),
    ("secrets: shown in the answer", "hashlib.sha256(text.encode()).hexdigest()[:12]", "text"),
)

_NETPLAN = _in(
    f"{_UTILS}/fabric/netplan.py",
    f"{_TESTS}/fabric/test_netplan.py",
    ("netplan: an address is named twice", "if rail.address not in held:", "if True:"),
    (
        "netplan: a file that others need is put aside",
        "elif strangers or Path(path).parent != FOLDERS[1]:",
        "elif False:",
    ),
    ("netplan: a file is put aside unasked", "        if not replace:\n", "        if False:\n"),
    ("netplan: a bond's part becomes a rail", "if user := stacked_on(others, rail.interface):", "if user := False:"),
    ("netplan: the way back does not apply the old files", '"netplan apply 9>&-",', '"true",'),
    ("netplan: the old file is not saved", 'shutil.copy2(step.path, self.state / "backup" / str(place))', "pass"),
    (
        "netplan: what netplan refuses stays",
        "            if status:\n                self.restore()\n",
        "            if status:\n",
    ),
    (
        "netplan: a change without a timer",
        "        if why := timer.arm(self.run, ROLLBACK, seconds, description, self.script):\n            self.disarm()\n            raise",
        "        why = timer.arm(self.run, ROLLBACK, seconds, description, self.script)\n        if False:\n            raise",
    ),
    ("netplan: no guard for the next boot", "self._guard_link().symlink_to(self._guard())", "pass"),
    (
        "netplan: the file is readable for all",
        "write_atomic(step.path, step.content, 0o600)",
        "write_atomic(step.path, step.content)",
    ),
)

_DIGESTS = [
    *_in(
        f"{_UTILS}/docker/image_digest.py",
        f"{_TESTS}/docker/test_image_digest.py",
        ("image: its environment is no part of its digest", '"Cmd", "Env", "WorkingDir"', '"Cmd", "WorkingDir"'),
        ("image: its layers are no part of its digest", '{"layers": layers, "run": run}', '{"run": run}'),
    ),
    *_in(
        f"{_UTILS}/docker/service.py",
        f"{_TESTS}/docker/test_service.py",
        ("container: a new secret restarts nothing", '"secrets": dict(sorted(secret_hashes.items()))', '"secrets": {}'),
        ("container: a moved tag restarts nothing", '"image_id": image_id, "secrets"', '"image_id": "", "secrets"'),
        ("container: a changed limit is not seen", 'if not found and label != wanted["digest"]:', "if False:"),
        ("container: a changed variable is not seen", "if environment.get(name) != value:", "if False:"),
        ("container: readable mounts are writable", 'mode = "ro" if self.read_only else "rw"', 'mode = "rw"'),
        ("container: the stop flag is ignored", "if container.name not in ASIDE else []", "if False else []"),
        (
            "container: outlives its unit",
            '("ExecStopPost", exec_line([DOCKER, "rm", "--force"',
            '("ExecStopPost", exec_line([DOCKER, "ps"',
        ),
        (
            "container: an exported secret is in the command",
            '{secret.environment}="$(cat {secret.target})"',
            "{secret.environment}={secret.name}",
        ),
    ),
    *_in(
        f"{_UTILS}/docker/service_unit.py",
        f"{_MODULES}/test_service_replaces.py",
        ("container: systemd runs an old unit", "if written or state.need_reload:", "if written:"),
    ),
]

_FILES = _in(
    f"{_UTILS}/system/files.py",
    f"{_TESTS}/system/test_files.py",
    (
        "files: open for all for a moment",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)",
    ),
    (
        "files: half of a file under its name",
        "        temporary.replace(path)\n",
        "        path.write_bytes(temporary.read_bytes())\n",
    ),
    (
        "files: check mode writes",
        "        if not self.check:\n            write_atomic(path, text, mode)",
        "        if True:\n            write_atomic(path, text, mode)",
    ),
)

_NODE_TOOLS = [
    *_in(
        f"{_UTILS}/command/library.py",
        f"{_TESTS}/test_rooms.py::test_what_goes_to_the_nodes_brings_all_that_it_imports",
        ("node_tools: a file that the gates need stays behind", "    system_http_json,\n", ""),
    ),
]

_RESTART = [
    *_in(
        f"{_UTILS}/system/units.py",
        f"{_TESTS}/service/test_restart_plan.py",
        (
            "restart: vLLM starts before Ray",
            "(RAY_HEAD, RAY_WORKER, VLLM_WORKER, VLLM)",
            "(VLLM, RAY_HEAD, RAY_WORKER, VLLM_WORKER)",
        ),
    ),
    *_in(
        f"{_UTILS}/service/restart_plan.py",
        f"{_TESTS}/service/test_restart_plan.py",
        ("restart: stops in the order of starting", "for name in reversed(ORDER)\n", "for name in ORDER\n"),
        (
            "restart: workers of a new head stay",
            "list(found[RAY_WORKER]) if head else broken[RAY_WORKER]",
            "broken[RAY_WORKER]",
        ),
        ("restart: vLLM stays on a new worker", "or head or workers)", "or head)"),
        ("restart: vLLM stays on a new rank", "broken[VLLM] or broken[VLLM_WORKER] or head", "broken[VLLM] or head"),
        ("restart: a stop starts all again", 'steps = down + (up if kind == "restart" else [])', "steps = down + up"),
    ),
    *_in(
        "roles/cluster_restart/tasks/steps.yml",
        "tests/unit/playbooks/test_graph_road.py::test_the_first_mode_passes_and_a_second_run_changes_nothing",
        (
            "restart: the role takes the steps in its own order",
            "{{ cluster_restart_plan.steps }}",
            "{{ cluster_restart_plan.steps | reverse }}",
        ),
    ),
]

_PLAN = _in(
    f"{_UTILS}/plan/plan.py",
    f"{_TESTS}/plan/test_plan.py",
    ("plan: the gate is loosened by 5 GiB", "headroom >= min_headroom_gib)", "headroom >= min_headroom_gib - 5)"),
    ("plan: a request too long for the model fits", "and admitted and length <= known and", "and admitted and"),
    ("plan: less than one request fits", "held = concurrency >= 1 and", "held = concurrency >= 0 and"),
)

_GUARD = _in(
    f"{_UTILS}/node/guard.py",
    f"{_TESTS}/node/test_guard.py",
    ("guard: earlyoom waits for swap to be full as well", '"-s", "100,100"', '"-s", "10,5"'),
    (
        "guard: a container changes the kernel of the machine below it",
        "if self.node.is_container or now is None:",
        "if now is None:",
    ),
    (
        "guard: a container takes the watchdog of the machine below it",
        'if self.node.is_container:\n            return "this node is a container"\n        if not self.node.has_watchdog:',
        "if not any((self.node.root / 'dev').glob('watchdog*')):",
    ),
    (
        "guard: the kernel's reserve is lowered",
        "target = max(own, self.wanted.min_free_mib * 1024)",
        "target = self.wanted.min_free_mib * 1024",
    ),
    (
        "guard: the watchdog is taken from another program",
        "if holders := watchdog_holders(self.node.root):",
        "if holders := []:",
    ),
    (
        "guard: a fresh package runs with its own limits",
        "self.missing = [PACKAGE]\n            return",
        "self.missing = [PACKAGE]\n            (self.node.root / UNIT_FILE).unlink()\n            return",
    ),
)

MUTATIONS: tuple[Mutation, ...] = (
    *_GATES,
    *_STORE,
    *_SECRETS,
    *_NETPLAN,
    *_DIGESTS,
    *_FILES,
    *_NODE_TOOLS,
    *_RESTART,
    *_PLAN,
    *_GUARD,
)
