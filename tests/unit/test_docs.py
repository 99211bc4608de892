# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The reference says what the code says."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command import main as spark
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.codes import CODES, SOURCES
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.shared import SHARED

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import generate  # noqa: E402 - the path is set just above


@pytest.mark.parametrize("path", sorted(generate.files()), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert path.is_file() and path.read_text() == generate.files()[path], "run `python docs/generate.py`"


def test_the_causes_of_failed_starts_are_up_to_date() -> None:
    found = (ROOT / "docs" / "start-failures.md").read_text()
    assert found == generate.start_failures(), "run `python docs/generate.py`"


def test_every_role_and_shared_setting_is_in_it() -> None:
    assert {path.name for path in (ROOT / "roles").iterdir()} == set(generate.ROLES)
    assert all(f"| `{name}` |" in generate.settings() for name in SHARED)


def test_comments_change_no_value_and_keep_lines_that_say_the_same() -> None:
    text = "---\n# Two\n# lines.\na_x: 1\na_y:\n  # Inside.\n  - 2\n# Old words.\na_z: 3\n"
    options = {
        name: {"description": said}
        for name, said in (("a_x", "Two lines."), ("a_y", "Of C(y)."), ("a_z", "New words."))
    }
    role = generate.Role("a", {"options": options}, yaml.safe_load(text), text)
    assert generate.defaults(role) == (
        "---\n# Two\n# lines.\na_x: 1\n# Of `y`.\na_y:\n  # Inside.\n  - 2\n# New words.\na_z: 3\n"
    )


PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md", "inventory/*.md", "roles/*/README.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)


def prose(page: Path) -> str:
    """Return a page without its fenced code, where brackets are no links."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 1
        while slug + (f"-{number}" if number > 1 else "") in found:
            number += 1
        found.add(slug + (f"-{number - 1}" if number > 1 else ""))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        leads_to = page.parent / target if target else page
        assert leads_to.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(leads_to), f"{page.name} links to {target}#{anchor}"


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - set(re.findall(r"\]\(([\w-]+\.md)", index)) == set()


# --- commands -----------------------------------------------------------------------------------------------------

#: Programs that commands in the docs may begin with, beside those that are checked word by word.
PROGRAMS = {
    *(
        "ansible",
        "ansible-doc",
        "ansible-galaxy",
        "ansible-builder",
        "antsibull-changelog",
        "apt-get",
        "awk",
        "cat",
        "cd",
        "cmake",
        "cp",
        "curl",
    ),
    *(
        "dmesg",
        "docker",
        "echo",
        "ethtool",
        "export",
        "findmnt",
        "git",
        "grep",
        "hf",
        "ibdev2netdev",
        "ip",
        "journalctl",
        "KEY",
        "ls",
    ),
    *(
        "make",
        "molecule",
        "mount",
        "nfsstat",
        "nvidia-smi",
        "ping",
        "pip",
        "pre-commit",
        "python",
        "python3",
        "rm",
        "sed",
        "source",
        "ssh",
    ),
    *(
        "ssh-keygen",
        "sudo",
        "systemctl",
        "tar",
        "timeout",
        "umount",
        "rsync",
        "scp",
        "modprobe",
        "lsblk",
        "nmcli",
        "clients/bin/pip",
    ),
}
_PLAYBOOK = re.compile(r"^(?:playbooks/[a-z_]+\.yml|site\.yml|dgx_spark\.vllm\.([a-z_]+))$")
#: Options of ansible-playbook that docs use, with whether a value follows.
_OPTIONS = {
    **dict.fromkeys(
        ("-i", "--inventory", "-e", "--extra-vars", "--limit", "-l", "--tags", "--skip-tags", "--start-at-task"), True
    ),
    **dict.fromkeys(
        ("-K", "-k", "-v", "-vvv", "--check", "--diff", "--syntax-check", "--list-tags", "--ask-vault-pass"), False
    ),
}


#: Programs whose commands are checked word by word.
CHECKED = ("ansible-playbook", "make", "molecule", "tests/run", r"\.venv/bin/\w+", "python")


def commands() -> list[tuple[str, str]]:
    """Return page and line of each command: lines of shell blocks, of indented blocks, and whole texts in backticks that begin with a program."""
    found = []
    for page in PAGES:
        if "decisions" in page.parts:
            continue
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(?:bash|sh|shell)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        # An indented block may hold settings or output too: only what begins like a command counts.
        blocks += ["\n".join(re.findall(rf"^    ((?:{'|'.join(CHECKED)}) .*)$", prose(page), re.MULTILINE))]
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(
            r"`((?:ansible-playbook|make|tests/run|molecule|sudo spark) [^`]+)`", prose(page).replace("\\|", "|")
        )
        found += [(str(page.relative_to(ROOT)), line.partition("  #")[0].strip()) for line in lines]
    return sorted({(page, line) for page, line in found if line and not re.match(r"#|[a-z_]+: |->|enP", line)})


def words(line: str) -> list[str]:
    """Return a command's words, without what a pipe, `&&` or a comment brings."""
    try:
        return shlex.split(re.split(r" (?:\||&&|;|>|<<<|2>) ?", line, maxsplit=1)[0], comments=True)
    except ValueError:
        return []


def settings_known() -> set[str]:
    """Return every name that `-e` may set: settings of roles, shared ones, parameters of playbooks, Ansible's own."""
    found = {name for role in generate.ROLES for name in generate.Role.read(role).spec["options"]} | set(SHARED)
    # A parameter of a playbook is a name that it reads with a default, or hands to what runs in it.
    for path in (ROOT / "playbooks").rglob("*.yml"):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"\b([a-z][a-z_]+)(?: \| default\(| is (?:not )?defined)", text))
    return found


@pytest.mark.parametrize(("page", "line"), [c for c in commands() if c[1].startswith("ansible-playbook ")])
def test_a_playbook_is_called_as_it_can_be(page: str, line: str) -> None:
    rest, known = words(line)[1:], settings_known()
    names = []
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            option, _, value = word.partition("=")
            assert option in _OPTIONS, f"{page}: {line}: {option}"
            if _OPTIONS[option] and not value:
                assert rest, f"{page}: {line}"
                value = rest.pop(0)
            if option in ("-e", "--extra-vars"):
                given = yaml.safe_load(value) if value.startswith("{") else dict([value.split("=", 1)])
                assert set(given) <= known, f"{page}: {line}"
            if option == "--tags":
                assert set(value.split(",")) <= {path.stem for path in (ROOT / "playbooks" / "steps").glob("*.yml")}
        else:
            names.append(word)
    for name in names:
        found = _PLAYBOOK.match(name)
        path = f"playbooks/{found[1]}.yml" if found and found[1] else name
        assert (ROOT / path).is_file() or name in ("...", "X"), f"{page}: {line}: {name}"
    assert names, f"{page}: {line}"


def spark_takes(said: list[str]) -> bool:
    """Say whether the command on a node takes these words."""
    try:
        spark.parser().parse_args(spark.joined(said))
    except SystemExit as ended:
        return ended.code == 0
    return True


def test_other_commands_are_known() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    run = (ROOT / "tests" / "run").read_text(encoding="utf-8")
    stages = {
        name for found in re.findall(r"^(?:all|long|roles)=\((.+)\)$", run, re.MULTILINE) for name in found.split()
    } | {"check"}
    unknown = []
    for page, line in commands():
        said = words(line)
        while said and re.fullmatch(r"[A-Z_]+=.*", said[0]) and len(said) > 1:
            said.pop(0)
        if not said or said[0] == "ansible-playbook":
            continue
        program, rest = said[0], said[1:]
        if program == "make":
            good = not rest or rest[0] in targets
        elif program == "tests/run":
            good = set(rest) <= stages | {"NAME..."}
        elif program == "sudo" and rest[:1] == ["spark"]:
            good = spark_takes(rest[1:])
        elif program in ("molecule",):
            scenarios = [rest[i + 1] for i, word in enumerate(rest[:-1]) if word in ("-s", "--scenario-name")]
            good = all((ROOT / "molecule" / name).is_dir() or name.isupper() for name in scenarios)
        elif program.endswith("python") and rest[:1] == ["-m"]:
            top = rest[1].partition(".")[0]
            good = (
                top in ("pip", "venv", "pytest")
                or (ROOT / rest[1].replace(".", "/")).exists()
                or (ROOT / (rest[1].replace(".", "/") + ".py")).exists()
            )
        elif program in ("python", "python3") and rest and rest[0].endswith(".py"):
            good = (ROOT / rest[0]).exists()
        elif "/" in program and not program.startswith("/"):
            good = (ROOT / program).exists() or program.startswith((".venv/bin/", "clients/bin/"))
        else:
            good = program in PROGRAMS
        if not good:
            unknown.append((page, line))
    assert not unknown, unknown
    assert len(commands()) > 100


# --- codes of findings ---------------------------------------------------------------------------------------------

#: Texts in the form of a code that are none: Docker's registry, and its unit.
NO_CODES = {"docker.io", "docker.service"}


def used_codes() -> dict[str, set[str]]:
    """Return every code that is written out in a file that makes findings, with the files."""
    code = re.compile(rf"(?:{'|'.join(SOURCES)})\.[a-z][a-z0-9_]*")
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        makes = any(
            isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] == "finding"
            for node in ast.walk(tree)
        )
        for node in ast.walk(tree) if makes else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and code.fullmatch(node.value):
                found.setdefault(node.value, set()).add(path.name)
    return {name: files for name, files in found.items() if name not in NO_CODES}


def named_playbooks() -> list[tuple[str, str]]:
    """Return file and playbook of each place in code, tests and docs that names one by its path."""
    found = set()
    tops = (
        "README.md",
        "Makefile",
        "benchmarks",
        "bin",
        "changelogs",
        "docs",
        "inventory",
        "molecule",
        "playbooks",
        "plugins",
        "roles",
        "setup_wizard",
        "simulation",
        "tests",
    )
    for top in tops:
        for path in [ROOT / top] if (ROOT / top).is_file() else (ROOT / top).rglob("*"):
            if path.suffix in {"", ".md", ".py", ".yml", ".j2", ".sh", ".toml"} and path.is_file():
                text = path.read_text(encoding="utf-8", errors="ignore")
                found |= {
                    (str(path.relative_to(ROOT)), name)
                    for name in re.findall(r"(?<![\w/])playbooks/[a-z_/]+\.yml", text)
                }
    return sorted(found)


def test_every_playbook_that_is_named_exists() -> None:
    named = named_playbooks()
    assert len(named) > 50
    # A folder with playbooks of its own (the stand-ins) names them from there.
    missing = [
        (file, name) for file, name in named if not any((base / name).exists() for base in (ROOT, (ROOT / file).parent))
    ]
    assert missing == []


def test_every_code_has_its_entry_and_every_entry_its_code() -> None:
    used = used_codes()
    assert {name: files for name, files in used.items() if name not in CODES} == {}, "add them to report/codes.py"
    assert sorted(set(CODES) - set(used)) == [], "these are no longer used"
    assert len(used) > 150, "the scan finds the codes at all"


def test_a_code_is_written_out_where_it_is_used() -> None:
    """One that is put together at run time could not be found by the scan above."""
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Finding"
                and node.args
            ):
                made = isinstance(node.args[0], (ast.JoinedStr, ast.BinOp, ast.Call))
                assert not made or path.name == "finding.py", f"{path.name}:{node.lineno}"


def test_the_codes_are_explained_as_the_registry_says() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert page == generate.troubleshooting(), "run `python docs/generate.py`"
    assert re.findall(r"^#### (\S+)$", page, re.MULTILINE) == [
        code for source in SOURCES for code in CODES if code.startswith(f"{source}.")
    ]


def test_an_entry_says_something() -> None:
    assert {code.partition(".")[0] for code in CODES} == set(SOURCES)
    for code, meaning in CODES.items():
        assert not meaning.title.endswith("."), code
        assert meaning.means.endswith(".") and meaning.todo.endswith("."), code
        for playbook in re.findall(r"playbooks/\w+\.yml", " ".join(meaning)):
            assert (ROOT / playbook).exists(), f"{code} names {playbook}"
