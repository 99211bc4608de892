# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""`make demo`: from a clone to an answer, on a machine without a Spark."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import docker

from simulation import chat, engine, images, keys, nodes, playbook, routes, settings
from simulation.progress import Step, Steps, human
from simulation.settings import HEAD, NETWORKS, SimulationError

OWNER = "demo"
PLAYBOOK = "site.yml"
INVENTORY = settings.REPOSITORY / "inventory" / "simulation"
# Inventories of another number of nodes, which the demo runs with the simulation's values over them.
EXAMPLES = {1: "one", 3: "three", 4: "four"}
MOST_NODES = 4
WORDS = {1: "One simulated Spark", 2: "Two simulated Sparks", 3: "Three simulated Sparks", 4: "Four simulated Sparks"}

# What a first run needs, from measurements: wheels 0.8 GB, serving.tar 1.9 GB, images 2.6 GB, one copy of the serving
# image in each node 3.8 GB, and room for building them.
NEEDED_DISK_GB, NODE_DISK_GB = 6, 4
# Two nodes with Ray and vLLM took under 5 GiB.
NODE_MEMORY_GIB = 3

QUESTION = "What is the capital of France?"
TOOL_QUESTION = "What is 127 factorial?"
# Seconds that the endpoint gets to come back after both plugs were pulled; about 90 were measured on two cores.
REBOOT_TIMEOUT = 600


def plan(client: docker.DockerClient | None = None, count: int = len(settings.NODES)) -> list[Step]:
    """The steps of the demo, with what is there already as far as it can be seen without a running engine."""
    cache = settings.cache_folder()
    built = (cache / "images" / "serving.json").exists()
    model = (cache / "model" / images.model_hash() / "config.json").exists()
    present = bool(client and nodes.existing_nodes(client))
    served = bool(present and settings.state().get("served"))
    named = "inventory/simulation" if count not in EXAMPLES else f"inventory/examples/{EXAMPLES[count]}"
    return [
        Step("environment", "Python environment", 0, 0, True),
        Step("engine", "Docker engine", 5, 1, True),
        Step("images", "Images: a simulated Spark, and vLLM with Ray for CPUs", 420, 1, built),
        Step("model", "Tiny model: trained in place", 90, 1, model),
        Step("nodes", f"{WORDS[count]} and a local model hub", 15, 2, present),
        Step("playbook", f"ansible-playbook -i {named} {PLAYBOOK}", 240, 45, served),
        Step("answers", "Ask the endpoint", 10, 5, True),
    ]


def inventories(count: int) -> list[Path]:
    """The inventories of the demo: for one, three and four nodes the example of that number, then the nodes and values of the simulation.

    Those are written where the simulation keeps its state: addresses of so many nodes, and inventory/simulation's settings as they are.
    """
    if count not in EXAMPLES:
        return [INVENTORY]
    wanted = [settings.node(f"spark-{number}") for number in range(1, count + 1)]
    hosts = {
        one.name: {
            "ansible_host": one.management_address,
            # As the example says: one node has no link, and Ray listens at its own address.
            "spark_fabric_address": one.fabric_address if count > 1 else one.management_address,
        }
        for one in wanted
    }
    head, *workers = hosts
    groups = {"head": {"hosts": {head: hosts[head]}}}
    if workers:
        groups["workers"] = {"hosts": {name: hosts[name] for name in workers}}
    folder = settings.state_folder() / f"inventory-{count}"
    (folder / "group_vars").mkdir(parents=True, exist_ok=True)
    settings.write_json(folder / "hosts.json", {"sparks": {"children": groups}})
    values = (INVENTORY / "group_vars" / "all.yml").read_text(encoding="utf-8")
    (folder / "group_vars" / "all.yml").write_text(values, encoding="utf-8")
    return [settings.REPOSITORY / "inventory" / "examples" / EXAMPLES[count], folder]


def refuse_others(present: Sequence[settings.Node], wanted: Sequence[settings.Node]) -> None:
    """Raises SimulationError where nodes exist that are none of the wanted: they would stay in their old cluster."""
    more = [node.name for node in present if node not in wanted]
    if more:
        raise SimulationError(
            f"{' and '.join(more)} of a larger demo {'is' if len(more) == 1 else 'are'} there: take it away first (`make demo-down`)."
        )


def run(count: int = len(settings.NODES)) -> None:
    """The whole demo, on so many nodes. Raises SimulationError with one sentence where it cannot go on."""
    wanted = [settings.node(f"spark-{number}") for number in range(1, count + 1)]
    steps = Steps(plan(count=count))
    with steps.step("environment"):
        version = ".".join(str(part) for part in sys.version_info[:3])
        steps.say(f"Python {version} with the pinned packages, in {Path(sys.prefix).name}")
    with steps.step("engine"):
        client = engine.ensure(steps.say)
        info = client.info()
        steps.say(f"Docker {info.get('ServerVersion')}, {info.get('NCPU')} CPUs")
        # What stands in the way is said before anything is built.
        routes.refuse_conflicts(NETWORKS, routes.read_routes(), [network.attrs for network in client.networks.list()])
        nodes.claim(client, steps.say, OWNER)
        present = nodes.existing_nodes(client)
        refuse_others(present, wanted)
        if not present:
            refuse_small_machines(str(info.get("DockerRootDir") or "/var/lib/docker"), count)
    steps.steps = {step.key: step for step in plan(client, count)}
    with steps.step("images"):
        steps.doing("building")
        content = nodes.prepare(steps.say, hub=False)
    with steps.step("model"):
        content = nodes.prepare(steps.say)
    with steps.step("nodes"):
        report = nodes.up(client, steps.say, content, nodes=wanted, owner=OWNER)
        if not report.changed:
            steps.say("everything is there and runs: nothing changed")
    with steps.step("playbook"):
        summary = playbook.run(PLAYBOOK, inventories(count), steps.say, steps.doing)
        steps.say(f"{summary.tasks} tasks: {summary.recap}")
        if summary.status == "canceled":
            raise KeyboardInterrupt
        if summary.status != "successful":
            what = summary.failures[0] if summary.failures else "it ended before its first task"
            raise SimulationError(f"{PLAYBOOK} failed: {what} (the whole output: {settings.run_log()})")
        settings.remember(served=True)
        if not any(summary.changed.values()):
            steps.say("changed=0 everywhere: all was as it should be")
    with steps.step("answers"):
        endpoint = endpoint_of_head()
        model = talk(endpoint, steps)
    print()
    print(closing_words(model, time.monotonic() - steps.started))


def refuse_small_machines(docker_root: str, count: int) -> None:
    """Raises SimulationError where a first run would run out of disk or memory."""
    needed_disk, needed_memory = NEEDED_DISK_GB + NODE_DISK_GB * count, NODE_MEMORY_GIB * count
    for folder in (Path(docker_root), settings.cache_folder()):
        place = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(place).free / 1e9
        if free < needed_disk:
            raise SimulationError(
                f"{free:.1f} GB are free for {folder}, and the first run of the demo needs {needed_disk} GB: make room and try "
                "again (XDG_CACHE_HOME moves the cache; `docker system prune` frees what Docker no longer uses)."
            )
    available = available_memory_gib(Path("/proc/meminfo").read_text(encoding="ascii"))
    if available < needed_memory:
        raise SimulationError(
            f"{available:.1f} GiB of memory are available, and {count} node{'s' if count > 1 else ''} with vLLM need{'s' if count == 1 else ''} {needed_memory} GiB: close other "
            "programs and try again."
        )


def available_memory_gib(meminfo: str) -> float:
    """Available memory in GiB from the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024**2
    return 0.0


def fetch_api_key() -> str:
    """Bring the endpoint's key from the head, where the playbook made it, into a file that only this user can read."""
    done = keys.run(HEAD, "sudo", "cat", settings.API_KEY_ON_NODE)
    key = done.stdout.strip()
    if done.returncode != 0 or not key:
        raise SimulationError(
            f"The endpoint's key could not be read from {HEAD.name}:{settings.API_KEY_ON_NODE}: {done.stderr.strip() or 'it is empty'}"
        )
    path = settings.api_key_file()
    if not path.exists() or path.read_text(encoding="ascii").strip() != key:
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(key + "\n", encoding="ascii")
    return key


def endpoint_of_head() -> chat.Endpoint:
    """The endpoint as this machine reaches it."""
    return chat.Endpoint(f"http://127.0.0.1:{settings.API_PORT}/v1", fetch_api_key())


def talk(endpoint: chat.Endpoint, steps: Steps) -> str:
    """A streamed answer and a parsed tool call, printed. Returns the model's served name."""
    model = endpoint.model()
    steps.say(f"model   {model}")
    steps.say(f"you     {QUESTION}")
    print("      model   ", end="", flush=True)

    def show(text: str) -> None:
        print(text, end="", flush=True)

    endpoint.stream(model, QUESTION, show)
    print(flush=True)
    steps.say(f"you     {TOOL_QUESTION}   (with a tool, tool_choice auto)")
    name, arguments = endpoint.call_tool(model, TOOL_QUESTION)
    words = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    steps.say(f"model   calls {name}({words})")
    return model


def closing_words(model: str, seconds: float) -> str:
    """Where the endpoint is, how to ask it, how to stop it."""
    key = shlex.quote(str(settings.api_key_file()))
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}'
    return "\n".join(
        [
            f"It serves, {human(seconds)} after the start. The endpoint, here and on the simulated fabric:",
            "",
            f"  http://127.0.0.1:{settings.API_PORT}/v1",
            f"  http://{HEAD.fabric_address}:{settings.API_PORT}/v1",
            "",
            "Ask it yourself:",
            "",
            f"  curl http://127.0.0.1:{settings.API_PORT}/v1/chat/completions \\",
            '    -H @- -H "Content-Type: application/json" \\',
            f"    -d '{body}' <<< \"Authorization: Bearer $(cat {key})\"",
            "",
            f"Look around:    ssh -F {shlex.quote(str(settings.ssh_config_file()))} {HEAD.name}",
            "Pull the plugs: make demo-reboot",
            "What runs:      make demo-status",
            "Stop:           make demo-down",
        ]
    )


def reboot() -> None:
    """Pull the plugs of all nodes at once, put them back, and wait until the endpoint answers a question again."""
    client = engine.ensure(lambda line: print(line, flush=True))
    present = nodes.existing_nodes(client)
    if not present:
        raise SimulationError("There are no simulated Sparks to reboot: `make demo` makes them.")

    def say(line: str) -> None:
        print(line, flush=True)

    nodes.unplug(client, say, present, hard=True)
    started = time.monotonic()
    nodes.plug(client, say, present)
    say("Waiting for the endpoint to answer again, by itself")
    endpoint = endpoint_of_head()
    reason = "it was not asked"
    while time.monotonic() - started < REBOOT_TIMEOUT:
        try:
            answer = endpoint.stream(endpoint.model(timeout=5), QUESTION, lambda text: None)
        except SimulationError as error:
            reason = str(error)
            time.sleep(1)
            continue
        say(f"{QUESTION} {answer.strip()}")
        say(f"It serves again, {human(time.monotonic() - started)} after the plugs were put back.")
        return
    raise SimulationError(f"The endpoint did not answer within {human(REBOOT_TIMEOUT)} after the reboot: {reason}")


def status(client: docker.DockerClient) -> str:
    """A table of what there is, and whether the endpoint answers."""
    rows = nodes.status(client)
    if not rows:
        return "There is no simulation: `make demo` raises it."
    lines = [f"{'NAME':<12}{'POWER':<7}{'SYSTEM':<12}{'MANAGEMENT':<18}FABRIC"]
    for row in rows:
        addresses = row["networks"]
        fabric = "-" if row["kind"] == "hub" else addresses["fabric"] or "cut off"
        management = addresses["management"] or "cut off"
        lines.append(f"{row['name']:<12}{row['power']:<7}{row['system'] or '-':<12}{management:<18}{fabric}")
    path = settings.api_key_file()
    endpoint = chat.Endpoint(
        f"http://127.0.0.1:{settings.API_PORT}/v1", path.read_text(encoding="ascii").strip() if path.exists() else ""
    )
    try:
        lines.append(f"\nThe endpoint {endpoint.url} serves {endpoint.model(timeout=5)}.")
    except SimulationError as error:
        lines.append(f"\nThe endpoint does not serve: {error}")
    return "\n".join(lines)
