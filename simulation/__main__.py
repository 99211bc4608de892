# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Command line of the simulation: `python -m simulation <command>`, from the checkout's root, in its virtual environment."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import docker.errors

from simulation import demo, engine, machines, nodes, settings
from simulation.faults import catalog, suite
from simulation.faults.traffic import SILENT, WRONG
from simulation.gb10 import check as gb10_check
from simulation.gb10 import stage as gb10_stage
from simulation.gb10.variants import VARIANTS
from simulation.host import Report
from simulation.settings import SimulationError


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m simulation", description="Two simulated DGX Sparks on one machine.")
    commands = top.add_subparsers(dest="command", required=True)
    all_of_it = commands.add_parser("demo", help="everything, ending with an answer (make demo)")
    all_of_it.add_argument(
        "--nodes",
        type=int,
        choices=range(1, demo.MOST_NODES + 1),
        default=len(settings.NODES),
        help="how many; other than two run the example of that number in inventory/examples (default: 2)",
    )
    commands.add_parser("demo-reboot", help="pull all plugs, put them back, wait for an answer (make demo-reboot)")
    commands.add_parser("engine", help="make sure that a Docker engine runs")

    up = commands.add_parser("up", help="make nodes (and the hub) exist and run")
    up.add_argument("nodes", nargs="*", metavar="NODE", help="spark-1 to spark-100 (default: spark-1 spark-2)")
    up.add_argument("--owner", default="demo", help="who uses them; another owner's are never touched (default: demo)")
    up.add_argument("--no-hub", action="store_true", help="without the local model hub and its model")
    up.add_argument("--bare", action="store_true", help="without the folders of the serving image and the wheels")

    down = commands.add_parser("down", help="remove nodes, hub, networks, disks and state")
    down.add_argument("--cache", action="store_true", help="images, wheels, the model and the virtual machines as well")
    down.add_argument("--owner", help="only where this owner uses them (default: whoever does)")
    down.add_argument(
        "--engine", action="store_true", help="stop the Docker engine too, if it was started by hand here"
    )

    reboot = commands.add_parser("reboot", help="restart nodes: processes die, disks stay")
    reboot.add_argument("--hard", action="store_true", help="pull the plug instead of a clean shutdown")
    unplug = commands.add_parser("unplug", help="switch nodes off")
    unplug.add_argument("--soft", action="store_true", help="a clean shutdown instead of pulling the plug")
    plug = commands.add_parser("plug", help="switch nodes on")
    plug.add_argument("--no-wait", action="store_true", help="do not wait for ssh")
    cut = commands.add_parser("cut", help="pull the network cables of nodes")
    heal = commands.add_parser("heal", help="put the network cables of nodes back")
    for cable in (cut, heal):
        words = [network.key for network in settings.NETWORKS]
        cable.add_argument("--network", choices=words, action="append", help="default: both")
    for many in (reboot, unplug, plug, cut, heal):
        many.add_argument("nodes", nargs="+", metavar="NODE")

    spark = commands.add_parser(
        "gb10", help="stand-ins that make a node look like a Spark with a GB10, healthy or sick"
    )
    spark.add_argument("node", metavar="NODE")
    spark.add_argument("variant", metavar="VARIANT", help=", ".join(gb10_stage.names()))
    sparks = commands.add_parser("gb10-check", help="show every variant to the playbooks, on the pair that runs")
    sparks.add_argument("variants", nargs="*", metavar="VARIANT", help="default: all")
    sparks.add_argument("--json", metavar="FILE", help="write all verdicts there")
    sparks.add_argument("--docs", metavar="FILE", help="write the table of verdicts between the marks in this page")

    broken = commands.add_parser(
        "faults", help="put faults on the pair that runs, under traffic, and say what clients saw"
    )
    broken.add_argument("faults", nargs="*", metavar="FAULT", help="part of a fault's name; default: all")
    broken.add_argument("--quick", action="store_true", help="only the quick ones")
    broken.add_argument("--list", action="store_true", help="name the faults")
    broken.add_argument("--times", type=int, default=1, metavar="N", help="put each N times")
    broken.add_argument(
        "--soak", type=float, metavar="MINUTES", help="put one of them at random every two minutes, for so long"
    )
    broken.add_argument("--seed", type=int, metavar="N", help="for the same order of a soak again")
    broken.add_argument("--json", metavar="FILE", help="write all results there")
    broken.add_argument("--docs", metavar="FILE", help="write the table between the marks in this page")
    broken.add_argument("--page", metavar="FILE", help="write all results as a page for a browser")

    status = commands.add_parser("status", help="what there is, and whether the endpoint answers")
    status.add_argument("--json", action="store_true", help="for programs; without the endpoint")

    machine = commands.add_parser(
        "vm", help="two virtual machines with a kernel of their own, for NFS, boots and power cuts"
    )
    power = machine.add_subparsers(dest="power", required=True)
    names = " ".join(one.name for one in machines.MACHINES)
    raised = power.add_parser("up", help="make machines exist and run; again, it changes nothing")
    raised.add_argument(
        "--accel", choices=machines.ACCELERATORS, help="default: kvm where it can be relied on, else tcg"
    )
    switched_on = power.add_parser("on", help="switch machines on")
    switched_on.add_argument("--no-wait", action="store_true", help="do not wait for ssh")
    switched_off = power.add_parser("off", help="switch machines off by their power button")
    restarted = power.add_parser("reboot", help="switch machines off and on again")
    for plugged in (switched_off, restarted):
        plugged.add_argument("--hard", action="store_true", help="pull the plug instead")
    for many in (raised, switched_on, switched_off, restarted):
        many.add_argument("machines", nargs="*", metavar="MACHINE", help=f"default: {names}")
    power.add_parser("down", help="remove the machines, their disks and state")
    power.add_parser("status", help="what there is, as JSON")
    return top


def act(options: argparse.Namespace) -> None:
    """Do what the command line says. Raises SimulationError where that is not possible."""
    if options.command == "demo":
        demo.run(options.nodes)
        return
    if options.command == "demo-reboot":
        demo.reboot()
        return
    if options.command == "vm":
        act_on_machines(options)
        return
    named = [settings.node(name) for name in getattr(options, "nodes", [])]
    if options.command == "down" and options.cache:
        # Their disks lie in it.
        machines.down(say)
    if options.command in ("down", "status") and engine.ask() is engine.Answer.NO:
        say("No Docker engine runs, so nothing of the simulation does (its disks, if any, come back with the engine).")
        return
    client = engine.ensure(say)
    if options.command == "engine":
        say(f"Docker {client.info().get('ServerVersion')} answers.")
    elif options.command == "gb10":
        gb10_stage.show(client, say, settings.node(options.node), gb10_stage.named(options.variant))
    elif options.command == "gb10-check":
        check_gb10(client, options)
    elif options.command == "faults":
        put_faults(client, options)
    elif options.command == "status":
        say(json.dumps(nodes.status(client), indent=1) if options.json else demo.status(client))
    elif options.command == "down":
        report = nodes.down(client, say, cache=options.cache, owner=options.owner)
        if options.engine:
            engine.stop_if_ours(say)
        say("All of it is gone." if report.changed else "Nothing was taken away.")
    else:
        report = change(client, options, named)
        if not report.changed:
            say("Nothing changed: everything was so already.")


def check_gb10(client: docker.DockerClient, options: argparse.Namespace) -> None:
    """Show variants to the playbooks. Raises SimulationError where a verdict is not the expected one."""
    wanted = [gb10_stage.find(name) for name in options.variants] or VARIANTS
    verdicts, well = gb10_check.check(client, say, wanted)
    if options.json:
        Path(options.json).write_text(gb10_check.as_json(verdicts, well), encoding="utf-8")
    if options.docs:
        gb10_check.write_table(Path(options.docs), verdicts)
    wrong = [verdict.variant for verdict in verdicts if not verdict.fits]
    if wrong:
        raise SimulationError(f"{len(wrong)} of {len(verdicts)} variants got another verdict: {', '.join(wrong)}.")
    say(f"{len(verdicts)} variants, each with the verdict that was expected.")


def put_faults(client: docker.DockerClient, options: argparse.Namespace) -> None:
    """Put faults on the pair. Raises SimulationError where clients saw what they must not see."""
    if options.times < 1:
        raise SimulationError(f"--times is {options.times}, expected 1 or more.")
    wanted = catalog.find(options.faults, options.quick)
    if options.list:
        for fault in wanted:
            say(f"{fault.name}{'  (quick)' if fault.quick else ''}")
        return
    if options.soak is not None and not 0 < options.soak <= 24 * 60:
        raise SimulationError(f"--soak is {options.soak:g}, expected minutes, at most a day.")
    whole: suite.Soak | None = None
    if options.soak is None:
        results, cold = suite.run(client, say, wanted, options.times)
    else:
        seed = options.seed if options.seed is not None else int(time.time())
        whole, cold = suite.soak(client, say, wanted, options.soak, seed)
        results = whole.results
        say(whole.sentence())
    if options.json:
        Path(options.json).write_text(suite.as_json(results, cold), encoding="utf-8")
    if options.docs and whole:
        suite.write_docs(Path(options.docs), suite.soak_table(whole, cold), suite.SOAK_BEGIN, suite.SOAK_END)
    elif options.docs:
        suite.write_docs(Path(options.docs), suite.table(results, cold))
    if options.page:
        # Only here: the page needs the collection on the path, as `make venv` puts it there.
        from simulation.faults.page import page

        made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        Path(options.page).write_text(page(results, cold, made), encoding="utf-8")
    wrong = [result.fault for result in results if result.problems]
    if whole and (whole.clients.get(WRONG) or whole.clients.get(SILENT)) and not wrong:
        raise SimulationError("Between the faults clients got wrong answers, or none: the sentence above counts them.")
    if wrong:
        raise SimulationError(
            f"{len(wrong)} of {len(results)} faults did not end as they must: {', '.join(dict.fromkeys(wrong))}."
        )
    say(f"{len(results)} faults; every client got a right answer or a clean error, and the pair serves.")


def act_on_machines(options: argparse.Namespace) -> None:
    """The commands of the virtual machines."""
    named = [machines.machine(name) for name in getattr(options, "machines", [])] or machines.MACHINES
    if options.power == "status":
        say(json.dumps(machines.status(), indent=1))
        return
    if options.power == "up":
        report = machines.up(say, named, accel=options.accel)
    elif options.power == "on":
        report = machines.on(say, named, wait=not options.no_wait)
    elif options.power == "down":
        report = machines.down(say)
    else:
        report = {"off": machines.off, "reboot": machines.reboot}[options.power](say, named, hard=options.hard)
    if not report.changed:
        say("Nothing changed: everything was so already.")


def change(client: docker.DockerClient, options: argparse.Namespace, named: list[settings.Node]) -> Report:
    """The commands that change nodes and say what they changed."""
    if options.command == "up":
        content = nodes.prepare(say, folders=not options.bare, hub=not options.no_hub)
        return nodes.up(client, say, content, nodes=named or settings.NODES, owner=options.owner)
    if options.command == "reboot":
        return nodes.reboot(client, say, named, hard=options.hard)
    if options.command == "unplug":
        return nodes.unplug(client, say, named, hard=not options.soft)
    if options.command == "plug":
        return nodes.plug(client, say, named, wait=not options.no_wait)
    networks = [settings.network(key) for key in options.network] if options.network else list(settings.NETWORKS)
    return (nodes.cut if options.command == "cut" else nodes.heal)(client, say, named, networks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 1 for a failure told in one sentence, 130 when interrupted."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        act(options)
    except SimulationError as error:
        print(f"\nERROR: {error}", file=sys.stderr)
        return 1
    except docker.errors.DockerException as error:
        print(f"\nERROR: Docker failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        command = "make demo" if options.command == "demo" else "the same command"
        print(
            f"\nStopped. What is done stays done: {command} goes on from here, `make demo-down` takes it away.",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
