# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The command ``spark`` on a node: what is asked for, and who answers it. Each is a thin way to what the playbooks do on this node."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from . import benchmark, diagnose, keys, logs, status
from .cluster import Cluster, CommandError, load
from .order import EXPECTED, Order
from .terminal import Terminal

#: Exit statuses: of what cannot be done, and of Ctrl-C (as a shell's).
FAILED, BROKEN_OFF = 1, 130
_ABOUT = """Look after this node of a dgx_spark.vllm cluster, and on the head after the cluster.

It does on this node what the playbooks do from where the inventory is, and needs root.
A setting is changed there and not here."""
_EXAMPLES = """first steps:
  sudo spark status                  is it serving, how fast, what is wrong and what to do
  sudo spark status --watch          the same, again and again, until Ctrl-C
  sudo spark logs --since -1h        what all units said in the last hour
  sudo spark stop                    stop serving, also over a reboot
  sudo spark start                   serve again

`spark COMMAND --help` says more of each. docs/operations.md has all of it."""


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"is {text}, expected seconds from 1 to 3600")
    return value


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"is {text}, expected a whole number from 1 to 100000")
    return int(text)


def _limit(text: str) -> int:
    if not text.isdecimal() or int(text) > 1_000_000:
        raise argparse.ArgumentTypeError(f"is {text}, expected a whole number from 0 (no limit) to 1000000")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return what the command takes."""
    plain = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="spark", description=_ABOUT, epilog=_EXAMPLES, formatter_class=plain)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    def add(name: str, short: str, more: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=short, description=f"{short[0].upper()}{short[1:]}.\n\n{more}", formatter_class=plain
        )

    one = add(
        "status",
        "show whether it serves, how fast, what is wrong and what to do",
        "On the head: the whole cluster, as far as the head sees it. Of the other nodes that is what they report\n"
        "to the watchdog; playbooks/status.yml looks at each node itself. A look at what hangs ends after 5 seconds.",
    )
    one.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=5.0,
        metavar="SECONDS",
        help="draw it again every 5 (or so many) seconds until Ctrl-C",
    )
    one.add_argument(
        "--json",
        action="store_true",
        help="print what docs/status.schema.json describes, for programs; with --watch one line each time",
    )

    one = add(
        "logs",
        "show the last lines of every unit of this node in one order of time",
        "Errors are red, warnings yellow, times are UTC. The node's keys are taken out; what clients asked may stand in it.",
    )
    one.add_argument(
        "-n", "--lines", type=_number, default=50, metavar="N", help="lines of each unit, from its end (50)"
    )
    one.add_argument(
        "--since",
        default="",
        metavar="TIME",
        help="nothing older, in journalctl's words: -1h, today, '2026-11-27 08:00'",
    )
    one.add_argument("-f", "--follow", action="store_true", help="then show lines as they come, until Ctrl-C")
    one.add_argument(
        "--unit",
        action="append",
        default=[],
        metavar="NAME",
        help="this unit alone: vllm, ray-head, watchdog, ...; may be given again",
    )

    one = add(
        "start",
        "start what does not run, in order, and wait until it serves",
        "Takes the stop flag away, as playbooks/start.yml does. On a further node: that node's units alone.\n"
        "Loading a large model takes up to 15 minutes. Ctrl-C ends the waiting, not the start.",
    )
    one.add_argument("--no-wait", action="store_true", help="return at once")
    add(
        "stop",
        "stop serving, in order; nothing starts again until `spark start`, also after a reboot",
        "On the head. Running requests get the drain time to end. The other nodes' ranks and Ray end with the head's, and\n"
        "wait for it; `ansible-playbook playbooks/stop.yml` keeps their units stopped too.",
    )
    one = add(
        "restart",
        "stop and start everything, in order, and wait until it serves",
        "On the head. Refused while the stop flag is set. Ctrl-C ends the waiting, not the start.",
    )
    one.add_argument("--no-wait", action="store_true", help="return once the start has begun")

    one = add(
        "keys",
        "list, add, rotate and withdraw the named keys of the gateway",
        "On the head, where the gateway is on. A change cuts no stream. A key is shown when it is made and never again.",
    )
    kinds = one.add_subparsers(dest="what", required=True, metavar="WHAT")
    kinds.add_parser(
        "list", help="names, roles and limits; never a key", description="Show names, roles and limits; never a key."
    )
    for name, short in (
        ("add", "make a key and show it once"),
        ("rotate", "give a name another key and show it once; the earlier one is refused at once"),
        ("withdraw", "refuse a key from now on"),
    ):
        kind = kinds.add_parser(name, help=short, description=f"{short[0].upper()}{short[1:]}.")
        kind.add_argument("name", metavar="NAME", help="up to 32 of a-z, 0-9, - and _")
        if name == "add":
            kind.add_argument(
                "--role", choices=["user", "operator"], help="what it opens (docs/security.md); user by default"
            )
            kind.add_argument(
                "--per-minute", type=_limit, metavar="N", help="most requests in a minute; no limit by default"
            )
            kind.add_argument(
                "--at-once", type=_limit, metavar="N", help="most requests at the same time; no limit by default"
            )
            kind.add_argument("--ends", metavar="DAY", help="last day on which it is taken, in UTC, such as 2027-01-31")

    one = add(
        "benchmark",
        "show the last measurement of this cluster",
        "It measures nothing: `ansible-playbook playbooks/benchmark.yml` does, where the plan and all nodes are known,\n"
        "and keeps its results on the head.",
    )
    one.add_argument("-n", "--count", type=_number, default=1, metavar="N", help="the last so many (1)")

    one = add(
        "diagnose",
        "pack states and logs of this node, without secrets, into one archive for support",
        "Changes nothing. `ansible-playbook playbooks/diagnose.yml` packs all nodes.",
    )
    one.add_argument(
        "--output",
        default="",
        metavar="FILE",
        help="file that ends in .tar.gz; by default one of a new name in this folder",
    )
    return top


def _keys(options: argparse.Namespace, _cluster: Cluster, terminal: Terminal) -> int:
    named = ("role", "per_minute", "at_once", "ends")
    given = {name: value for name in named if (value := getattr(options, name, None)) is not None}
    return keys.run(options.what, getattr(options, "name", ""), given, terminal)


def _logs(options: argparse.Namespace, cluster: Cluster, terminal: Terminal) -> int:
    return logs.run(
        cluster.node, terminal, lines=options.lines, since=options.since, units=options.unit, following=options.follow
    )


COMMANDS: dict[str, Callable[[argparse.Namespace, Cluster, Terminal], int]] = {
    "status": lambda options, cluster, terminal: status.run(
        cluster, terminal, watch=options.watch, as_json=options.json
    ),
    "logs": _logs,
    "start": lambda options, cluster, terminal: Order(cluster, terminal).start(not options.no_wait),
    "stop": lambda _options, cluster, terminal: Order(cluster, terminal).stop(),
    "restart": lambda options, cluster, terminal: Order(cluster, terminal).restart(not options.no_wait),
    "keys": _keys,
    "benchmark": lambda options, cluster, terminal: benchmark.run(cluster, terminal, options.count),
    "diagnose": lambda options, cluster, terminal: diagnose.run(
        cluster, terminal, options.output, status=lambda: status.gather(cluster)[0]
    ),
}


def joined(arguments: Sequence[str]) -> list[str]:
    """Return the words with the time behind ``--since`` as one: argparse would take ``-1h`` for an option."""
    found: list[str] = []
    for word in arguments:
        if found and found[-1] == "--since":
            found[-1] = f"--since={word}"
        else:
            found.append(word)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked for; returns the exit status: 1 for what cannot be done, 2 for words that are not known."""
    options = parser().parse_args(joined(sys.argv[1:] if arguments is None else arguments))

    def failed(reason: object) -> int:
        sys.stderr.write(f"spark {options.command}: {reason}\n")
        return FAILED

    if os.geteuid() != 0:
        return failed(f"only root may see and do this: run `sudo spark {options.command}`")
    try:
        return COMMANDS[options.command](options, load(), Terminal())
    except (CommandError, *EXPECTED) as error:
        return failed(error)
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return BROKEN_OFF
    except BrokenPipeError:
        # Who reads has enough; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return failed(f"{error.filename or 'this node'}: {error.strerror or error}")
    except Exception as error:  # whatever it is, a person reads it
        return failed(f"{type(error).__name__}: {error}; please report this as a bug")


if __name__ == "__main__":
    raise SystemExit(main())
