# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The conversation: addresses, SSH, sudo, link, disk, model; then the inventory, its check and the report."""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from setup_wizard import checks, inventory, machines, proposal
from setup_wizard.console import Console, Refusal
from setup_wizard.machines import ROOT, Shell
from setup_wizard.proposal import Link, Look, Node

DEFAULT = ROOT / "inventory" / "sparks"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m setup_wizard",
        description="Writes the inventory of your Sparks: asks for their addresses, looks at them, proposes the rest.",
        epilog=f"FILE is YAML with any of {', '.join(f'{key} ({text})' for key, text in checks.ANSWERS.items())}.",
    )
    top.add_argument("--answers", metavar="FILE", help="answers that are not asked for")
    top.add_argument("--yes", action="store_true", help="ask nothing: the file's answers, else the defaults")
    top.add_argument("--replace", action="store_true", help="with --yes: write over an inventory that is in use")
    top.add_argument(
        "--no-report", action="store_true", help="do not look at the nodes with playbooks/report.yml at the end"
    )
    top.add_argument(
        "--inventory", metavar="FOLDER", default=str(DEFAULT), help="where to write it (default: inventory/sparks)"
    )
    return top


def read_answers(path: str) -> dict[str, Any]:
    """The file of answers. Raises Refusal where it cannot be read."""
    try:
        return checks.answers(yaml.safe_load(Path(path).read_text(encoding="utf-8")), path)
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise Refusal(f"{path} is no YAML: {str(error).splitlines()[-1].strip()}") from None
    except ValueError as error:
        raise Refusal(str(error)) from None


# --- the questions ----------------------------------------------------------------------------------------------


def ask_nodes(console: Console, known: Sequence[str]) -> list[Node]:
    """Addresses of the nodes, the head first."""
    given = console.given.get("nodes")
    names: list[str] = []
    if given is not None or console.unattended:
        if not (given or known):
            raise Refusal("nodes has no default: put it into the file that --answers names")
        for text in given or known:
            try:
                names.append(checks.address(text, names))
            except ValueError as error:
                raise Refusal(f"nodes: {error}") from None
        return machines.placed(names)
    console.say("The addresses at which you reach your Sparks by SSH (this machine may be one: localhost).")
    while len(names) < checks.MOST_NODES:
        first, place = not names, len(names)
        offered = known[place] if place < len(known) else ""
        question = (
            "Address of Spark 1, the head"
            if first
            else f"Address of Spark {place + 1} (- for no more)"
            if offered
            else f"Address of Spark {place + 1} (empty: no more)"
        )

        def check(text: str, first: bool = first) -> str:
            if text in ("", "-") and not first:
                return ""
            return checks.address(text, names)

        if not (name := console.ask(f"node {place + 1}", question, offered, check)):
            break
        names.append(name)
    return machines.placed(names)


def ask_link(console: Console, looks: Sequence[Look], nodes: Sequence[Node]) -> Link:
    """The link's addresses. A person may plug a cable and have the nodes looked at again."""
    link = proposal.link_of(looks, nodes)
    console.say(f"  {link.said}.")
    if len(nodes) == 1:
        return link
    given = console.given.get("fabric_addresses")
    if given is not None and len(given) != len(nodes):
        raise Refusal(
            f"{console.source}: fabric_addresses are {len(given)}, the nodes {len(nodes)}: give one for each node"
        )
    chosen: list[str] = []
    for place, node in enumerate(nodes):
        if given is not None:
            console.given[f"fabric_addresses of {node.name}"] = given[place]
        question = f"Address of {node.name} on the link"
        chosen.append(
            console.ask(
                f"fabric_addresses of {node.name}",
                question,
                link.addresses[place],
                lambda text: checks.fabric_address(text, chosen, link.prefix),
            )
        )
    link = proposal.with_addresses(link, chosen)
    if said := proposal.collision(looks, link):
        raise Refusal(said)
    return link


def looked_at(console: Console, nodes: Sequence[Node], shell: Shell) -> tuple[list[Look], Link]:
    """What the nodes show, and the link; what is wrong with a cable can be set right in between."""
    while True:
        console.say("Looking at the machines (seconds; nothing is changed) ...")
        looks, answered = machines.looks(nodes, shell)
        for look in looks:
            console.say(f"  {look.sentence()}")
        proposal.refuse_twice(looks, nodes)
        try:
            for line in proposal.cables(looks, answered):
                console.say(f"  {line}")
            return looks, ask_link(console, looks, nodes)
        except Refusal as error:
            if console.unattended:
                raise
            console.say(f"  {error}.")
            if not console.yes("Look again, when that is done?"):
                raise


def ask_store(console: Console, head: Look) -> str:
    """Folder of the weights."""
    folder, said = proposal.store_of(head)
    console.say(f"  {said}.")
    return console.ask("store", "Folder of the weights, on each node", folder, checks.store)


def ask_model(console: Console, nodes: int, folders: Sequence[Path]) -> str:
    """Name of the model."""
    if "model" not in console.given and not console.unattended:
        for name, data in proposal.models(folders).items():
            needs = int(data.get("nodes") or 1)
            console.say(
                f"  {name:<22}{data.get('weights_gib', '?'):>6} GiB, {needs} Spark{'s' if needs > 1 else ''} or more"
            )
    return console.ask(
        "model", "Model", proposal.default_model(nodes), lambda text: proposal.model_of(text, folders, nodes)
    )


# --- all of it --------------------------------------------------------------------------------------------------


def compose(console: Console, folder: Path) -> tuple[dict[str, str], bool]:
    """Ask and look. Returns the files of the inventory, and whether sudo asks for a password."""
    known, user_known = inventory.earlier(folder)
    nodes = ask_nodes(console, known)
    user = console.ask("user", "User for SSH, who may use sudo", user_known or getpass.getuser(), checks.user)
    ssh_args = console.ask("ssh_args", "", "", checks.ssh_args) if "ssh_args" in console.given else ""
    shell = Shell(user, ssh_args)
    ask_sudo = False
    for node in nodes:
        console.say(f"{node.name} at {node.address}{' (this machine)' if node.local else ''} ...")
        machines.enter(shell, node, console)
        asks = machines.asks_for_sudo(shell, node, console)
        ask_sudo = ask_sudo or asks
        console.say(
            f"  answers; sudo {'asks for a password: -K makes Ansible ask you for it' if asks else 'asks for no password'}"
        )
    looks, link = looked_at(console, nodes, shell)
    store = ask_store(console, looks[0])
    folders = [folder / "models", ROOT / "models"]
    model = ask_model(console, len(nodes), folders)
    data = proposal.model_data(model, folders)
    settings = {"spark_model": model, "spark_store_path": store, **link.settings, **proposal.shape_of(data, len(nodes))}
    base = inventory.base_settings(folder, ROOT / "inventory", len(nodes))
    try:
        text = inventory.settings_text(base, settings)
    except ValueError as error:
        raise Refusal(f"{folder / inventory.SETTINGS}: {error}") from None
    return {
        inventory.SETTINGS: text,
        inventory.HOSTS: inventory.hosts_text(nodes, link, user, ssh_args, ask_sudo),
    }, ask_sudo


def commit(console: Console, folder: Path, files: dict[str, str], replace: bool) -> None:
    """Check the inventory, show what would change, and write it. Raises Refusal where it is not to be."""
    if found := machines.problems_of(files, folder):
        raise Refusal(f"the settings are not sound, and nothing was written: {found[0]}")
    shown = inventory.difference(folder, files)
    if not shown:
        console.say(f"{folder} says all of this already: nothing to write.")
        return
    fresh = inventory.unused(folder)
    console.say(shown)
    if not fresh and console.unattended and not replace:
        raise Refusal(
            f"{folder} is in use and would change: --replace writes it, --inventory names another folder; nothing was written"
        )
    if not console.yes(f"Write {folder}{'' if fresh else ', which is in use'}?", default=fresh or console.unattended):
        raise Refusal("nothing was written")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        inventory.write(folder, files)
    except OSError as error:
        raise Refusal(f"{error.filename or folder} could not be written: {error.strerror}") from None
    finally:
        signal.signal(signal.SIGINT, before)
    console.say(f"Wrote {folder}: {', '.join(files)}.")


def command(folder: Path, book: str, ask_sudo: bool) -> list[str]:
    """The words with which a person runs a playbook on this inventory."""
    named = (
        []
        if folder == DEFAULT
        else ["-i", os.path.relpath(folder, ROOT) if folder.is_relative_to(ROOT) else str(folder)]
    )
    return ["ansible-playbook", *named, book, *(["-K"] if ask_sudo else [])]


def report(console: Console, folder: Path, ask_sudo: bool) -> bool:
    """Run the report, which asks for sudo's password itself. Returns whether it ended without red."""
    argv = [*command(folder, "playbooks/report.yml", ask_sudo), "-e", "node_report_fail_on_red=true"]
    if ask_sudo and console.unattended:
        console.say(f"sudo asks for a password, so that the report is yours to run: {' '.join(argv)}")
        return True
    console.say(f"The report of all nodes: {' '.join(argv)}")
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ.get('PATH', '')}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    return subprocess.run(argv, cwd=ROOT, env=environment, check=False).returncode == 0


def run(options: argparse.Namespace, console: Console) -> int:
    """All of it. Returns the exit status."""
    folder = Path(options.inventory).expanduser().resolve()
    files, ask_sudo = compose(console, folder)
    commit(console, folder, files, options.replace)
    try:
        sound = (
            options.no_report
            or not console.yes("Run the report now (it changes nothing)?")
            or report(console, folder, ask_sudo)
        )
    except KeyboardInterrupt:
        console.say("\nThe report was stopped; the inventory is written.")
        return 130
    # Only a shell in which the virtual environment is active finds Ansible.
    active = (
        ""
        if shutil.which("ansible-playbook")
        else f"source {os.path.relpath(Path(sys.executable).parent, ROOT)}/activate && "
    )
    console.say(
        f"\nNext{'' if sound else ', once the report is without red'}: {active}{' '.join(command(folder, 'site.yml', ask_sudo))}"
    )
    return 0 if sound else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 for what is told in one sentence, 130 when interrupted."""
    options = parser().parse_args(arguments)
    try:
        given = read_answers(options.answers) if options.answers else {}
        return run(options, Console(given, source=options.answers or "the answers", unattended=options.yes))
    except Refusal as error:
        print(f"\nERROR: {str(error).rstrip('.')}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped: nothing was written.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
