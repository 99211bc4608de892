# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Images, wheels and the model of the simulation: built once per content, reused afterwards.

Everything here is named after the content that it is made from: the first 12 hex digits of a SHA-256 over the
recipe's files and over the name of what it stands on. What exists under its name is reused, what does not is built
under a temporary name and renamed when it is whole, so that an interrupted run leaves nothing half-done behind.

    python -m simulation.images all          # build whatever is missing, print what there is
    python -m simulation.images node         # or one of: node, serving, model, wheels
    python -m simulation.images machine      # the disk of the virtual machines; `chat`: the image of the chat page

Environment:

- `XDG_CACHE_HOME`: the cache is `dgx-spark-vllm` in it (default `~/.cache`).
- `DGX_SPARK_TORCH_INDEX`: URL of a package index that has the CPU build of PyTorch, asked instead of PyTorch's own.
  Not needed where pip finds that build by its own settings (`PIP_EXTRA_INDEX_URL`, `PIP_FIND_LINKS`, pip.conf).
- `DGX_SPARK_DEBIAN_MIRROR`: Debian mirror for the base image (default: debootstrap's own).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from simulation import host, settings
from simulation.host import Progress
from simulation.settings import SimulationError

HERE = Path(__file__).resolve().parent
#: What a node gets; pip compares the hashes in it.
NODE_LOCK = HERE.parent / "roles" / "node_tools" / "files" / "requirements.txt"

# Debian 12: its systemd (252) still boots on hosts with cgroup v1, and its Python is the one of the wheels below.
DEBIAN_SUITE = "bookworm"
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PYTHON_VERSION = "3.11"
# Folders of the base image that are emptied.
USELESS_IN_BASE = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")

BASE_REPOSITORY = "dgx-spark-sim/debian"
NODE_REPOSITORY = "dgx-spark-sim/node"
SERVING_REPOSITORY = "dgx-spark-sim/serving"
CHAT_REPOSITORY = "dgx-spark-sim/chat"
MACHINE_REPOSITORY = "dgx-spark-sim/machine"
CURRENT_TAG = "current"

# Nothing of a GPU stack belongs into the simulation: torch alone would bring several GB of it.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's index of CPU builds; PyPI has builds for CUDA only."""
CUDA_WHEEL = re.compile(r"^(nvidia|cuda|cupy|triton|flashinfer|torchvision|torchaudio|torchcodec|pytorch_triton)", re.I)

# Seconds each step took on a machine with two cores; replaced by what is measured on this one.
SHIPPED_DURATIONS: dict[str, float] = {
    "base": 25,
    "node": 25,
    "node-wheels": 5,
    "serving-wheels": 120,
    "serving": 80,
    "serving-tar": 20,
    "model": 130,
    "machine": 35,
    "chat-wheels": 60,
    "chat": 90,
    "chat-tar": 20,
}

# Size of a virtual machine's disk in MiB. The file is sparse: it takes what is written to it.
MACHINE_DISK_MIB = 6144

# Seconds between two lines that say how much of a slow step is left.
PROGRESS_INTERVAL = 15.0


class BuildError(SimulationError):
    """A part of the simulation could not be built. The message is one sentence for the user, with the remedy."""


@dataclass(frozen=True)
class ImageInfo:
    """One image in the local Docker engine."""

    image: str
    """Name with the content tag, such as `dgx-spark-sim/node:0123456789ab`."""
    id: str
    """Image id as the local engine gives it, `sha256:...`."""
    bytes: int
    """Size in bytes as `docker image ls` shows it."""


@dataclass(frozen=True)
class MachineDisk:
    """What a virtual machine boots from."""

    disk: Path
    """File system (ext4, raw), never written to: every machine has a layer of its own above it."""
    kernel: Path
    initrd: Path


def cache_root() -> Path:
    """Folder that holds all that is built here and may be deleted at any time."""
    return settings.cache_folder()


def images_folder() -> Path:
    """Folder with `serving.tar` and `serving.json`, mounted into every simulated node."""
    return cache_root() / "images"


def node_wheels_folder() -> Path:
    """Folder with the wheels that the collection installs on a node, mounted into every simulated node."""
    return cache_root() / "wheels" / "node"


# --- names from content ----------------------------------------------------------------------------------------------


def content_hash(*parts: str | Path) -> str:
    """First 12 hex digits of a SHA-256 over strings and over the files below folders (names, contents, exec bits)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(f"text {len(part.encode())}\0{part}".encode())
            continue
        for path in _recipe_files(part):
            data = path.read_bytes()
            digest.update(f"file {path.relative_to(part)}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()[:12]


def _recipe_files(folder: Path) -> list[Path]:
    """Files of a recipe in a fixed order, without what Python or an editor leaves behind."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith(("~", ".swp", ".pyc"))
    )


def base_tag() -> str:
    """Name of the Debian base image."""
    return f"{BASE_REPOSITORY}:{content_hash('debootstrap minbase 1', DEBIAN_SUITE, platform.machine())}"


def node_tag() -> str:
    """Name of the image of a simulated node."""
    return f"{NODE_REPOSITORY}:{content_hash(base_tag(), HERE / 'node' / 'image')}"


def serving_tag() -> str:
    """Name of the serving image."""
    return f"{SERVING_REPOSITORY}:{content_hash(base_tag(), HERE / 'serving')}"


def chat_tag() -> str:
    """Name of the image of the chat page."""
    return f"{CHAT_REPOSITORY}:{content_hash(base_tag(), HERE / 'chat_page')}"


def machine_hash() -> str:
    """Name of the disk of the virtual machines."""
    return content_hash(node_tag(), str(MACHINE_DISK_MIB), HERE / "machine")


def model_hash() -> str:
    """Name of the tiny model: its recipe and the packages it is trained with."""
    packages = (HERE / "serving" / "requirements.txt").read_text(encoding="utf-8")
    return content_hash(platform.machine(), packages, HERE / "model")


# --- progress --------------------------------------------------------------------------------------------------------


def _durations_file() -> Path:
    return cache_root() / "durations.json"


def _expected_seconds(key: str) -> float:
    measured = settings.read_json(_durations_file()).get(key)
    return float(measured) if isinstance(measured, int | float) else SHIPPED_DURATIONS[key]


def _remember_seconds(key: str, seconds: float) -> None:
    settings.write_json(_durations_file(), {**settings.read_json(_durations_file()), key: round(seconds, 1)})


def _human_seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


@contextlib.contextmanager
def _step(progress: Progress, key: str, text: str) -> Iterator[None]:
    """Say what a slow step does, how long it takes, every few seconds how long is left, and remember its duration."""
    expected = _expected_seconds(key)
    progress(f"{text}: about {_human_seconds(expected)}")
    started = time.monotonic()
    done = threading.Event()

    def tell() -> None:
        while not done.wait(PROGRESS_INTERVAL):
            passed = time.monotonic() - started
            left = expected - passed
            hint = f"about {_human_seconds(left)} left" if left > 0 else "longer than the last time, still working"
            progress(f"{text}: {_human_seconds(passed)} so far, {hint}")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
    seconds = time.monotonic() - started
    _remember_seconds(key, seconds)
    progress(f"{text}: done in {_human_seconds(seconds)}")


# --- small tools -----------------------------------------------------------------------------------------------------


def _run(argv: Sequence[str], log: str, *, failure: str, stdin: bytes | IO[bytes] | None = None) -> None:
    """Run a command with its output in a log file; stdin is what it reads, or where from.

    Raises BuildError with `failure`, the last line of output and the place of the log when it does not succeed.
    """
    path = cache_root() / "logs" / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as out:
        out.write(f"\n$ {' '.join(argv)}\n".encode())
        out.flush()
        try:
            given: dict[str, Any] = {"input": stdin} if stdin is None or isinstance(stdin, bytes) else {"stdin": stdin}
            code = subprocess.run(argv, **given, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
        except FileNotFoundError:
            raise BuildError(f"{failure}: the command '{argv[0]}' is not installed.") from None
    if code != 0:
        last = host.last_line(path.read_text(errors="replace"))
        raise BuildError(f"{failure}: '{argv[0]}' ended with {code}: {last} (the whole output: {path})")


def _output(argv: Sequence[str]) -> str | None:
    """What a command prints, or None when it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError(f"The command '{argv[0]}' is not installed; install it and run this again.") from None
    return done.stdout.strip() if done.returncode == 0 else None


@contextlib.contextmanager
def _only_one(progress: Progress) -> Iterator[None]:
    """Let one process build at a time; a second one waits and then finds everything built."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("Another run is building the simulation's images: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- Docker ----------------------------------------------------------------------------------------------------------


def _inspect(image: str) -> ImageInfo | None:
    """The image of that name in the local engine, or None."""
    text = _output(["docker", "image", "inspect", "--format", "{{json .Id}} {{json .Size}}", image])
    if text is None:
        return None
    identifier, size = text.split()
    return ImageInfo(image=image, id=json.loads(identifier), bytes=int(size))


def _require_engine() -> None:
    if _output(["docker", "version", "--format", "{{.Server.Version}}"]) is None:
        raise BuildError(
            "The Docker engine does not answer: start it (as root: `systemctl start docker`, or `dockerd &` where "
            "there is no systemd), and see that this user may use it (group `docker`)."
        )


def _remove_old_tags(repository: str, keep: str, progress: Progress) -> None:
    """Remove images of a repository that belong to earlier contents and that no container uses."""
    listed = _output(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]) or ""
    for image in listed.splitlines():
        if image in (keep, f"{repository}:{CURRENT_TAG}") or image.endswith(":<none>"):
            continue
        # Fails while a container uses the image: it is then removed after a later build.
        if _output(["docker", "image", "rm", image]) is not None:
            progress(f"Removed the outdated image {image}")


def _build_context(folder: Path) -> bytes:
    """A Docker build context of a recipe folder, with owners and modes that do not depend on the checkout's umask."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folders = {parent for path in _recipe_files(folder) for parent in path.relative_to(folder).parents}
        for name in sorted(str(item) for item in folders if str(item) != "."):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for path in _recipe_files(folder):
            info = tarfile.TarInfo(str(path.relative_to(folder)))
            info.size, info.mode = path.stat().st_size, 0o644
            tar.addfile(info, io.BytesIO(path.read_bytes()))
    return buffer.getvalue()


# --- the base image --------------------------------------------------------------------------------------------------


def _require_debootstrap(progress: Progress) -> None:
    """Install debootstrap and Debian's archive keys where they are missing and apt can bring them."""
    missing = [] if shutil.which("debootstrap") or Path("/usr/sbin/debootstrap").exists() else ["debootstrap"]
    if not DEBIAN_KEYRING.exists():
        missing.append("debian-archive-keyring")
    if missing:
        host.install_packages(missing, "the simulation's base image is made from Debian's packages and", progress)


def _base_image(progress: Progress) -> str:
    """A minimal Debian 12 from its packages, so that no registry is needed. Returns the image's name."""
    tag = base_tag()
    if _inspect(tag):
        return tag
    _require_debootstrap(progress)
    build = cache_root() / "build"
    build.mkdir(parents=True, exist_ok=True)
    with _step(progress, "base", "Making the Debian 12 base image from its packages"):
        # What an interrupted run left there belongs to root.
        for stale in build.glob("rootfs-*"):
            subprocess.run(host.as_root(["rm", "-rf", "--one-file-system", str(stale)]), check=False)
        root = Path(tempfile.mkdtemp(prefix="rootfs-", dir=build))
        try:
            mirror = os.environ.get("DGX_SPARK_DEBIAN_MIRROR")
            argv = ["debootstrap", "--variant=minbase", f"--keyring={DEBIAN_KEYRING}", DEBIAN_SUITE, str(root)]
            path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
            _run(
                host.as_root(["env", path, *argv, *([mirror] if mirror else [])]),
                "base",
                failure="The Debian base image could not be made; see that this machine reaches a Debian mirror "
                "(DGX_SPARK_DEBIAN_MIRROR names another one)",
            )
            tar = ["tar", "-C", str(root), "--numeric-owner", "--one-file-system"]
            tar += [f"--exclude=./{name}/*" for name in USELESS_IN_BASE]
            _import_image([*tar, "-c", "."], tag)
        finally:
            subprocess.run(host.as_root(["rm", "-rf", "--one-file-system", str(root)]), check=False)
    _remove_old_tags(BASE_REPOSITORY, tag, progress)
    return tag


def _import_image(tar: Sequence[str], tag: str) -> None:
    """Feed a command's tar stream to `docker import`."""
    with subprocess.Popen(host.as_root(tar), stdout=subprocess.PIPE) as source:
        done = subprocess.run(
            ["docker", "import", "--change", 'CMD ["/bin/bash"]', "-", tag],
            stdin=source.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    if source.returncode != 0 or done.returncode != 0:
        subprocess.run(["docker", "image", "rm", tag], capture_output=True, check=False)
        reason = done.stderr.strip() or "tar failed"
        raise BuildError(f"The Debian base image could not be imported into Docker: {reason}")


# --- the node image --------------------------------------------------------------------------------------------------


def node_image(progress: Progress) -> ImageInfo:
    """The image of a simulated DGX Spark: systemd, sshd, sudo, Docker.

    Raises BuildError with one sentence when it cannot be built.
    """
    _require_engine()
    with _only_one(progress):
        tag = node_tag()
        if found := _inspect(tag):
            return found
        base = _base_image(progress)
        with _step(progress, "node", "Building the image of a simulated Spark"):
            _run(
                ["docker", "build", "--build-arg", f"BASE={base}", "--tag", tag, "-"],
                "node",
                stdin=_build_context(HERE / "node" / "image"),
                failure="The image of a simulated Spark could not be built",
            )
        built = _inspect(tag)
        if built is None:
            raise BuildError(f"Docker reported success, yet there is no image {tag}.")
        _remove_old_tags(NODE_REPOSITORY, tag, progress)
        return built


# --- the disk of the virtual machines --------------------------------------------------------------------------------


def machine_disk_if_built() -> MachineDisk | None:
    """The disk of the present recipe, or None where it was not built yet. Needs no Docker engine."""
    folder = cache_root() / "machine" / machine_hash()
    return MachineDisk(folder / "disk.raw", folder / "vmlinuz", folder / "initrd") if folder.is_dir() else None


def machine_disk(progress: Progress) -> MachineDisk:
    """The disk, the kernel and the initrd of the virtual machines, built inside containers without root's rights here.

    Raises BuildError with one sentence when they cannot be built.
    """
    if built := machine_disk_if_built():
        return built
    node = node_image(progress)
    with _only_one(progress):
        if built := machine_disk_if_built():
            return built
        disks = cache_root() / "machine"
        disks.mkdir(parents=True, exist_ok=True)
        tag = f"{MACHINE_REPOSITORY}:{machine_hash()}"
        container = f"dgx-spark-sim-build-{machine_hash()}"
        failure = "The disk of the virtual machines could not be built"
        with _step(progress, "machine", "Building the disk of the virtual machines"):
            for stale in disks.glob("incoming-*"):
                shutil.rmtree(stale, ignore_errors=True)
            incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=disks))
            subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)
            try:
                context = _build_context(HERE / "machine" / "image")
                argv = ["docker", "build", "--build-arg", f"NODE={node.image}", "--tag", tag, "-"]
                _run(argv, "machine", stdin=context, failure=failure)
                _run(["docker", "create", "--name", container, tag, "true"], "machine", failure=failure)
                argv = ["docker", "run", "--rm", "--interactive", "--network", "none", "--volume", f"{incoming}:/out"]
                argv += ["--volume", f"{HERE / 'machine' / 'disk.sh'}:/disk.sh:ro", tag, "sh", "/disk.sh"]
                argv += [str(MACHINE_DISK_MIB), f"{os.getuid()}:{os.getgid()}"]
                with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as source:
                    _run(argv, "machine", stdin=source.stdout, failure=failure)
            finally:
                subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)
                # The disk holds all of it.
                subprocess.run(["docker", "image", "rm", "--force", tag], capture_output=True, check=False)
            incoming.chmod(0o755)
            incoming.replace(disks / machine_hash())
        for old in disks.iterdir():
            if old.name != machine_hash():
                shutil.rmtree(old)
                progress(f"Removed the outdated disk {old.name}")
    built = machine_disk_if_built()
    if built is None:
        raise BuildError(f"{failure}: {disks} does not hold it.")
    return built


# --- wheels ----------------------------------------------------------------------------------------------------------


def _pip_platforms() -> list[str]:
    """Wheel platforms that a Debian 12 of this machine's architecture takes (glibc 2.36), best first."""
    machine = platform.machine()
    if machine not in ("x86_64", "aarch64"):
        raise BuildError(f"The simulation runs on x86_64 and aarch64; this machine is {machine}.")
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 16, -1)] + [f"manylinux2014_{machine}"]
    if machine == "x86_64":
        names += [f"manylinux_2_{minor}_{machine}" for minor in range(16, 4, -1)]
        names += [f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    return [*names, f"linux_{machine}"]


def _download_wheels(locks: Sequence[Path], target: Path, key: str, text: str, progress: Progress) -> None:
    """Make a folder hold exactly the wheels of some lock files; a whole folder of the same locks is left alone."""
    wanted = content_hash("wheels 1", platform.machine(), PYTHON_VERSION, *[lock.read_text() for lock in locks])
    stamp = target / ".complete"
    if stamp.exists() and stamp.read_text(encoding="utf-8").strip() == wanted:
        return
    target.mkdir(parents=True, exist_ok=True)
    incoming = target.with_name(f"{target.name}.incoming")
    # Always from nothing: wheels of another lock file must not slip in. pip's own cache spares a second download.
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    argv += ["--python-version", PYTHON_VERSION, "--implementation", "cp"]
    argv += [f"--abi={abi}" for abi in ("cp311", "abi3", "none")]
    argv += [f"--platform={name}" for name in _pip_platforms()]
    # Wheels that are already here are taken from here.
    argv += ["--find-links", str(target), "--dest", str(incoming)]
    for lock in locks:
        argv += ["--requirement", str(lock)]
    named = os.environ.get("DGX_SPARK_TORCH_INDEX")
    with _step(progress, key, text):
        # pip's own settings may know a place of the CPU build (a wheel folder, a company's mirror): they are asked first.
        attempts = [[*argv, "--extra-index-url", named]] if named else [argv, [*argv, "--extra-index-url", TORCH_INDEX]]
        for number, attempt in enumerate(attempts, start=1):
            try:
                _run(
                    attempt,
                    key,
                    failure="Not all Python packages could be downloaded (where the missing one is torch: set "
                    "DGX_SPARK_TORCH_INDEX to the URL of a package index that has its CPU build)",
                )
                break
            except BuildError:
                if number == len(attempts):
                    raise
                progress("Not all packages are where pip looks by itself: asking PyTorch's index of CPU builds as well")
        names = {path.name for path in incoming.glob("*.whl")}
        if cuda := sorted(name for name in names if CUDA_WHEEL.match(name)):
            raise BuildError(f"Packages for CUDA came among the wheels of the simulation: {', '.join(cuda)}.")
        # The folder itself may be mounted in a running node, so that its files are replaced one by one.
        stamp.unlink(missing_ok=True)
        for path in target.iterdir():
            if path.name not in names:
                path.unlink()
        for name in sorted(names):
            (incoming / name).replace(target / name)
        shutil.rmtree(incoming)
        stamp.write_text(wanted + "\n", encoding="utf-8")


def node_wheels(progress: Progress) -> Path:
    """The folder with what role node_tools installs, for the Python of a simulated node: the files whose hashes are in the role's list."""
    with _only_one(progress):
        target = node_wheels_folder()
        _download_wheels([NODE_LOCK], target, "node-wheels", "Downloading the Python packages of a node", progress)
        return target


# --- the serving image -----------------------------------------------------------------------------------------------


def serving_image(progress: Progress) -> ImageInfo:
    """The serving image for CPUs (vLLM and Ray), and `serving.tar` with `serving.json` for the nodes to load.

    Raises BuildError with one sentence when it cannot be built.
    """
    _require_engine()
    with _only_one(progress):
        tag = serving_tag()
        built = _inspect(tag) or _build_serving(tag, progress)
        _export_serving(built, progress)
        return built


def _build(
    tag: str, what: str, folder: str, repository: str, downloading: str, building: str, progress: Progress
) -> ImageInfo:
    """Build the image of a recipe from wheels, and take away what its repository had before.

    what: name of the wheels and of the step. folder: of the recipe. downloading, building: what is said meanwhile.
    """
    base = _base_image(progress)
    recipe, wheels = HERE / folder, cache_root() / "wheels" / what
    locks = [recipe / "requirements.txt", recipe / "requirements-build.txt"]
    _download_wheels(locks, wheels, f"{what}-wheels", downloading, progress)
    with _step(progress, what, building):
        built = _commit(tag, base, recipe, wheels, what)
    _remove_old_tags(repository, tag, progress)
    return built


def _build_serving(tag: str, progress: Progress) -> ImageInfo:
    downloading = "Downloading vLLM, PyTorch (CPU) and Ray, about 0.8 GB"
    building = "Building the serving image (real vLLM and Ray for CPUs)"
    return _build(tag, "serving", "serving", SERVING_REPOSITORY, downloading, building, progress)


def _commit(tag: str, base: str, recipe: Path, wheels: Path, what: str) -> ImageInfo:
    """Run a recipe's install.sh in one container and commit it once: neither the wheels nor what is stripped afterwards stays in a layer.

    A Dockerfile would need a builder with bind mounts, which the engine of Debian 12 (20.10) does not have.
    """
    container = f"dgx-spark-sim-build-{tag.rpartition(':')[2]}"
    subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)
    try:
        argv = ["docker", "run", "--name", container, "--volume", f"{wheels}:/build/wheels:ro"]
        argv += ["--volume", f"{recipe}:/build/recipe:ro", base, "sh", "/build/recipe/install.sh"]
        _run(argv, what, failure=f"The {what} image could not be built")
        changes = [f"--change=ENV {name}={value}" for name, value in _environment(recipe).items()]
        argv = ["docker", "commit", *changes, '--change=CMD ["/bin/sh"]', container, tag]
        _run(argv, what, failure=f"The {what} image could not be committed")
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)
    built = _inspect(tag)
    if built is None:
        raise BuildError(f"Docker reported success, yet there is no image {tag}.")
    return built


def _environment(recipe: Path) -> dict[str, str]:
    """Environment of a recipe's image, from its file of NAME=value lines."""
    lines = (recipe / "environment").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line.strip() and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def _export_serving(built: ImageInfo, progress: Progress) -> None:
    """Write `serving.tar` and then `serving.json`, which says what the tar holds."""
    folder = images_folder()
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "serving.json"
    if settings.read_json(note) == asdict(built) and (folder / "serving.tar").exists():
        return
    current = f"{SERVING_REPOSITORY}:{CURRENT_TAG}"
    before = _inspect(current)
    _run(["docker", "tag", built.image, current], "serving", failure="The serving image could not be tagged")
    if before and before.id != built.id:
        # Without its tag it would stay as an image without a name; it fails while a container uses it.
        _output(["docker", "image", "rm", before.id])
    with _step(progress, "serving-tar", "Writing the serving image to a file for the nodes"):
        temporary = folder / ".serving.tar.incoming"
        argv = ["docker", "save", "--output", str(temporary), built.image, current]
        _run(argv, "serving", failure="The serving image could not be written to a file")
        temporary.chmod(0o644)
        note.unlink(missing_ok=True)
        temporary.replace(folder / "serving.tar")
        settings.write_json(note, asdict(built))


# --- the image of the chat page --------------------------------------------------------------------------------------


def chat_archive(name: str, progress: Progress) -> Path:
    """`chat.tar` beside `serving.tar`: Open WebUI from PyPI under the name that its official image has, which no registry is asked for here.

    No part of `all`: only the test of the chat page asks for it.

    Raises BuildError with one sentence when it cannot be built.
    """
    _require_engine()
    with _only_one(progress):
        tag = chat_tag()
        built = _inspect(tag) or _build_chat(tag, progress)
        folder = images_folder()
        archive, note = folder / "chat.tar", folder / "chat.json"
        wanted = {**asdict(built), "name": name}
        if settings.read_json(note) == wanted and archive.exists():
            return archive
        folder.mkdir(parents=True, exist_ok=True)
        with _step(progress, "chat-tar", "Writing the image of the chat page to a file for the nodes"):
            temporary = folder / ".chat.tar.incoming"
            _run(["docker", "tag", tag, name], "chat", failure="The chat image could not be tagged")
            try:
                argv = ["docker", "save", "--output", str(temporary), name]
                _run(argv, "chat", failure="The chat image could not be written to a file")
            finally:
                _output(["docker", "image", "rm", name])
            temporary.chmod(0o644)
            note.unlink(missing_ok=True)
            temporary.replace(archive)
            settings.write_json(note, wanted)
        return archive


def _build_chat(tag: str, progress: Progress) -> ImageInfo:
    downloading = "Downloading Open WebUI and what it needs, about 0.3 GB"
    building = "Building the image of the chat page (Open WebUI from PyPI)"
    return _build(tag, "chat", "chat_page", CHAT_REPOSITORY, downloading, building, progress)


# --- the model -------------------------------------------------------------------------------------------------------


def tiny_model(progress: Progress) -> Path:
    """The folder with the tiny Qwen3 MoE model, trained in place inside the serving image.

    Raises BuildError with one sentence when the training fails or the trained model gives wrong answers.
    """
    image = serving_image(progress)
    with _only_one(progress):
        models = cache_root() / "model"
        target = models / model_hash()
        if (target / "config.json").exists():
            return target
        models.mkdir(parents=True, exist_ok=True)
        with _step(progress, "model", "Training the tiny model"):
            # A run that was killed can leave its container behind, still training.
            container = "dgx-spark-sim-train"
            subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)
            for stale in [*models.glob("incoming-*"), target]:
                shutil.rmtree(stale, ignore_errors=True)
            incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=models))
            argv = ["docker", "run", "--rm", "--name", container, "--network", "none"]
            argv += ["--user", f"{os.getuid()}:{os.getgid()}"]
            # Beside other work a thread that spins while it waits takes the core that the other one needs: twice the time, seen at a load of 6 on 2 cores.
            argv += ["--env", "OMP_WAIT_POLICY=PASSIVE"]
            argv += ["--env", "HOME=/tmp", "--volume", f"{HERE / 'model'}:/recipe:ro", "--volume", f"{incoming}:/model"]
            argv += [image.image, "python", "/recipe/train.py", "/recipe", "/model"]
            try:
                _run(argv, "model", failure="The tiny model could not be trained")
            finally:
                subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)
            incoming.chmod(0o755)
            incoming.replace(target)
        for old in models.iterdir():
            if old != target and old.is_dir():
                shutil.rmtree(old)
                progress(f"Removed the outdated model {old.name}")
        return target


# --- command line ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is asked for and print where it is. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m simulation.images", description="Build the simulation's parts.")
    parser.add_argument("part", choices=["all", "node", "serving", "model", "wheels", "machine", "chat"])
    part = parser.parse_args(arguments).part

    def progress(message: str) -> None:
        print(message, flush=True)

    try:
        if part in ("all", "node"):
            print(json.dumps(asdict(node_image(progress))))
        if part in ("all", "wheels"):
            print(node_wheels(progress))
        if part in ("all", "serving"):
            print(json.dumps(asdict(serving_image(progress))))
        if part in ("all", "model"):
            print(tiny_model(progress))
        if part == "chat":
            print(chat_archive(f"{CHAT_REPOSITORY}:{CURRENT_TAG}", progress))
        if part == "machine":
            print(machine_disk(progress).disk.parent)
    except SimulationError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; what is finished is kept.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
