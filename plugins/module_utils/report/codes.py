# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What each code of a finding means, and what to do about it in general; docs/troubleshooting.md is written from here.

Codes are stable: one that is no longer used goes, and is not used again for something else. A finding itself says more, with the values
of the machine that it was found on.
"""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """A code in words: a short title, what it means, and what to do."""

    title: str
    means: str
    todo: str


#: Who finds, in the order of the documentation, with what it looks at. ``<source>.ok`` is the code of what is as it should be.
SOURCES: dict[str, str] = {
    "node": "The machine: whether it can be reached, what it is, and what else runs on it.",
    "gpu": "GPU, driver and clocks, and what the serving image can compute on them.",
    "docker": "Docker, NVIDIA's container toolkit and CDI: how containers come by their GPU.",
    "fabric": "The QSFP link between the nodes: ports, addresses, RDMA, and the measured bandwidth.",
    "image": "The serving image.",
    "hub": "The weights: the model hub and the store on the node.",
    "service": "The units that run the cluster's containers.",
    "ray": "The Ray cluster.",
    "vllm": "The endpoint.",
    "watchdog": "What spark-watchdog says of the endpoint, by the tokens that clients get.",
    "benchmark": "What makes a measured server slow, or its figures look too good.",
    "cluster": "How the nodes differ from each other.",
}

CODES: dict[str, Meaning] = {
    # --- node: reached, and what is asked of it ---
    "node.port_open": Meaning(
        "A port of the cluster is open to others",
        "A connection came about from where nobody should reach it: Ray, the ranks and NFS are for the cluster's nodes alone.",
        "Set `packet_filter_enabled: true` and run `playbooks/nodes.yml`; `playbooks/ports.yml` shows all ports.",
    ),
    "node.port_of_others": Meaning(
        "A port of another program is open",
        "Something that is not this collection's listens on the node and is reached from another machine.",
        "Close it by `ufw` or the program's own setting; where it is meant, name it in `packet_filter_open_ports`. With the packet filter on, an open port "
        "that nobody named fails `verify`.",
    ),
    "node.unreachable": Meaning(
        "The node does not answer",
        "Ansible gets no SSH connection to the node; the finding quotes SSH's own reason.",
        "Try `ssh` by hand with the inventory's address and user, and correct whichever of address, route, key or user is wrong.",
    ),
    "node.no_sudo": Meaning(
        "No sudo on the node",
        "SSH works, but the user of the inventory may not become root.",
        "Run with `-K` and the right password, or allow that user sudo.",
    ),
    "node.no_python": Meaning(
        "No Python on the node",
        "SSH works, but the Python interpreter that Ansible is set to use is not there.",
        "Install python3, or correct `ansible_python_interpreter`.",
    ),
    "node.no_task_runs": Meaning(
        "Tasks fail on the node",
        "The node answers, but Ansible's tasks fail on it.",
        "Run `ansible NODE -m ansible.builtin.setup -vvv` and read its last lines.",
    ),
    "node.look_failed": Meaning(
        "A check could not run",
        "A module failed on the node; its message says why.",
        "Fix what the message names; where it names nothing, run again with `-vvv`.",
    ),
    "node.not_root": Meaning(
        "Tasks do not run as root",
        "The play runs without `become`, or sudo gives another user.",
        "Set `become: true`, and see that the user may use sudo.",
    ),
    "node.architecture": Meaning(
        "Unsupported processor architecture",
        "No serving image is known for machines of this kind.",
        "Take another machine, or add the architecture to `node_report_architectures` where you have an image for it.",
    ),
    "node.operating_system": Meaning(
        "Unsupported operating system",
        "The roles install Debian packages and know DGX OS, Ubuntu and Debian.",
        "Install one of these on the node.",
    ),
    "node.no_systemd": Meaning(
        "No systemd",
        "The services are systemd units, and process 1 of the node is something else.",
        "Boot the machine, or the container, with systemd.",
    ),
    "node.old_python": Meaning(
        "Python is too old",
        "Services on the node run with the system's own Python, which is older than `node_report_min_python`.",
        "Upgrade the operating system, or set `ansible_python_interpreter` to a newer Python.",
    ),
    "node.no_fabric_address": Meaning(
        "The fabric address is on no interface",
        "No interface of the node has `spark_fabric_address`.",
        "Give the QSFP interface that address, or correct `spark_fabric_address`.",
    ),
    "node.too_little_memory": Meaning(
        "Too little memory for the model",
        "The machine's memory is smaller than its part of the weights and what runs beside them.",
        "Choose a smaller model or more nodes; lower `node_report_min_memory_gib` only if you know better.",
    ),
    "node.no_nfs": Meaning(
        "The kernel has no NFS",
        "The kernel module for serving or mounting NFS is missing, as in many containers.",
        "Install the kernel's extra modules, or set `model_share_method: copy`.",
    ),
    "node.no_nfs_over_rdma": Meaning(
        "No NFS over RDMA",
        "RDMA is set as NFS transport, and the node has no RDMA device or no module rpcrdma.",
        "Set `model_share_nfs_transport: tcp`.",
    ),
    "node.disk_full": Meaning(
        "Too little disk space",
        "What is still to come (weights, image) does not fit on the file system that takes it.",
        "Make room, or set `spark_store_path` to another disk.",
    ),
    "node.port_in_use": Meaning(
        "A port is taken",
        "Something that is not ours listens on a port that the cluster needs ([all ports](ports.md)).",
        "Stop it, or move one of the two to another port.",
    ),
    # --- node: what else runs on it ---
    "node.seed_runs": Meaning(
        "A container of run_cluster.sh runs",
        "vLLM's script run_cluster.sh keeps Ray and a model on the node: memory and ports are taken.",
        "End the script in its terminal, or stop the container; `playbooks/takeover.yml` does it for you.",
    ),
    "node.seed_left": Meaning(
        "A container of run_cluster.sh is left over",
        "It is stopped and blocks nothing.",
        "Remove it when you like.",
    ),
    "node.container_runs": Meaning(
        "Another container has the GPU",
        "A container that is not ours runs with the GPU, and shares memory with the model.",
        "Stop it unless both fit together; `playbooks/takeover.yml` stops what has the GPU and removes nothing.",
    ),
    "node.container_returns": Meaning(
        "Another container will take the GPU at boot",
        "A stopped container with the GPU has the restart policy `always`.",
        "`docker update --restart=no NAME`.",
    ),
    "node.loose_processes": Meaning(
        "Ray or vLLM runs outside of Docker",
        "Processes of Ray or vLLM run on the node itself.",
        "Stop what started them; for Ray `ray stop`.",
    ),
    "node.memory_taken": Meaning(
        "Memory is held by other programs",
        "Less memory is available than a start needs, and the named programs hold the rest.",
        "Stop them, then check again.",
    ),
    "node.memory_lost": Meaning(
        "Memory is missing and no program holds it",
        "A GPU program that crashed can keep memory that no program is seen to hold.",
        "Reboot the node.",
    ),
    "node.memory_short_at_restart": Meaning(
        "A restart would not get its memory back",
        "What runs now keeps its memory; once stopped, it would not get it back because others hold some.",
        "Stop the named programs.",
    ),
    "node.memory_low": Meaning(
        "Hardly any memory is left",
        "Sparks were reported to freeze under load when memory runs out.",
        "Lower `vllm_serve_gpu_memory_utilization`, or stop what else runs.",
    ),
    "node.guard_acted": Meaning(
        "Memory ran out and a program was ended",
        "earlyoom ended the named process before the machine could freeze; where it was a rank, systemd started the server again.",
        "Lower `vllm_serve_gpu_memory_utilization`, or stop what else runs on the node.",
    ),
    "node.guard_off": Meaning(
        "Nothing guards the node's memory",
        "Role node_guard set up earlyoom, and it does not run: on unified memory, memory that runs out freezes the machine.",
        "Read `journalctl --unit earlyoom`, and run `site.yml` again.",
    ),
    "node.watchdog_off": Meaning(
        "The hardware watchdog is not in use",
        "Role node_guard gave it to systemd, which could not take it: a machine that froze waits until somebody pulls its plug.",
        "Read `journalctl --boot _PID=1 --grep watchdog`; `node_guard_watchdog_seconds: 0` does without.",
    ),
    "node.memory_unreadable": Meaning(
        "The memory cannot be read",
        "/proc/meminfo says nothing.",
        "Check the node: /proc is not mounted, or the system is damaged.",
    ),
    "node.gpu_in_use": Meaning(
        "Other programs use the GPU",
        "They take time and memory from the model, a desktop for example.",
        "Stop them before you measure.",
    ),
    "node.cache_over_nfs": Meaning(
        "A Hugging Face cache is mounted over NFS",
        "Compile caches that land on a share break; nothing of ours uses it.",
        "Unmount it once nothing else needs it.",
    ),
    "node.cache_exported": Meaning(
        "A Hugging Face cache is exported over NFS",
        "The cache also holds the user's token, which every client can then read.",
        "Take it out of /etc/exports once no machine mounts it.",
    ),
    "node.open_export": Meaning(
        "An export without root_squash",
        "Root of any client is root in that folder.",
        "Use root_squash unless something needs the other.",
    ),
    "node.port_configured_twice": Meaning(
        "Two files configure one port",
        "netplan adds the addresses of both together.",
        "Keep one of them, with another way into the machine at hand.",
    ),
    "node.port_configured_by_others": Meaning(
        "Somebody else configures a QSFP port",
        "A file that is not ours sets the port up, and it is left as it is.",
        "Remove it to have role fabric set the port up.",
    ),
    "node.reported_kernel": Meaning(
        "A kernel with reported problems",
        "Owners of Sparks reported trouble with this very kernel.",
        "Update the kernel and reboot.",
    ),
    "node.kernel_handover": Meaning(
        "The kernel keeps memory for a handover",
        "Kernel 7.0.0-1019 of DGX OS 7.6 keeps about 9 GiB for a handover to the next kernel, and owners' RoCE between nodes failed with it.",
        "Install nvidia-spark-grub-kho on all nodes and reboot them (it sets kho=off).",
    ),
    "node.swapped": Meaning(
        "Swap is in use",
        "DGX OS has 16 GiB of swap on by default. That is fine while it is empty; what lies in it stalls a model that shares the memory.",
        "See what takes the memory; `swapoff --all` and `swapon --all` bring it back while nothing is served.",
    ),
    "node.netplan_put_aside": Meaning(
        "NVIDIA Sync put a netplan file aside",
        "Its cluster assistant renames files of others to `*.sync-disabled-*` and writes its own.",
        "Take over the addresses of `99-nvidia-sync-cluster.yaml` in the settings, or remove that file and run site.yml.",
    ),
    "node.update_torn": Meaning(
        "An update was not finished",
        "dpkg has packages that are only half installed, as after an update of DGX OS that was cut off. The next boot may come without driver.",
        "`sudo dpkg --configure -a`, `sudo apt-get --fix-broken install`, then reboot.",
    ),
    "node.clock_unset": Meaning(
        "No time server sets the clock",
        "systemd does not know the clock as synchronized.",
        "`sudo timedatectl set-ntp true`, and see that the node reaches a time server.",
    ),
    "node.reboot_pending": Meaning(
        "A reboot is pending",
        "An installed update takes effect after a reboot.",
        "Reboot while nothing is being served.",
    ),
    "node.driver_updates_itself": Meaning(
        "Unattended upgrades may replace the driver",
        "A driver or kernel that is replaced below a running model takes the GPU from it at the next start.",
        "Hold these packages, and update them yourself on all nodes at one time.",
    ),
    # --- gpu ---
    "gpu.no_gpu": Meaning(
        "No NVIDIA GPU",
        "Neither the PCI bus nor the driver shows one.",
        "Run on a machine with a GPU, or use the simulation's inventory.",
    ),
    "gpu.unsupported": Meaning(
        "The GPU is too old",
        "vLLM's kernels need compute capability 7.5 or newer.",
        "Take a newer GPU.",
    ),
    "gpu.not_gb10": Meaning(
        "Not a GB10",
        "The settings that are shipped are made for a DGX Spark.",
        "Check memory, model and limits for this GPU.",
    ),
    "gpu.odd_capability": Meaning(
        "A GB10 with an unexpected compute capability",
        "A GB10 says 12.1; another answer points to an unfit driver.",
        "Update the driver.",
    ),
    "gpu.driver_missing": Meaning(
        "No driver",
        "The machine has an NVIDIA GPU and no driver, or no nvidia-smi.",
        "Install the driver of the 580 branch; `spark_devices: []` is for nodes without a GPU.",
    ),
    "gpu.driver_not_loaded": Meaning(
        "The driver is not loaded",
        "The driver is installed and the kernel has not loaded it, after a new kernel for example.",
        "Reboot; where that does not help, install the driver's module for this kernel and read `dmesg | grep -i nvrm`.",
    ),
    "gpu.driver_mismatch": Meaning(
        "Kernel and libraries have different drivers",
        "The driver was updated under the running kernel: nothing new can use the GPU.",
        "Reboot the node; hold the driver's packages to avoid it.",
    ),
    "gpu.driver_old": Meaning(
        "The driver is too old",
        "GB10 and CUDA 13 need the 580 branch.",
        "Update DGX OS.",
    ),
    "gpu.driver_unproven": Meaning(
        "A driver branch with a reported problem",
        "One report says that CUDA graphs hang with it; that is not confirmed.",
        "Nothing, unless the server hangs: then go back to the 580 branch.",
    ),
    "gpu.not_answering": Meaning(
        "nvidia-smi does not answer or fails, or the GPU does not work",
        "The driver is loaded and the GPU does not respond, is lost or requires a reset; or nvidia-smi has not the driver's libraries or no permission.",
        "Do what the finding names; otherwise read `dmesg | grep -i -e nvrm -e xid`, reboot, and where that does not help take the node off its power supply.",
    ),
    "gpu.no_devices": Meaning(
        "nvidia-smi finds no GPU",
        "It answers, the driver is loaded, and there is no device: after a half-done update, or where the GPU's system processor (GSP) does "
        "not answer (Xid 119, 154).",
        "Do what the finding names: finish the update and reboot, or take the node off its power supply for a minute.",
    ),
    "gpu.driver_no_memory": Meaning(
        "The GPU driver got no memory",
        "The kernel's log has NV_ERR_NO_MEMORY of the driver. Sparks were reported to freeze without another line after it, until somebody pulled the plug.",
        "Stop the server, lower `vllm_serve_gpu_memory_utilization` or stop what else runs, and reboot before the next start "
        "([when memory runs out](operations.md#when-memory-runs-out)).",
    ),
    "gpu.gsp_lost": Meaning(
        "The GPU's system processor was lost",
        "The kernel's log has Xid 119, 120 or 154: the GSP did not answer, or the driver asks for a reset of the GPU.",
        "Reboot the node; where it comes back, take it off its power supply for a minute, and update system and firmware.",
    ),
    "gpu.program_stopped": Meaning(
        "The GPU ended the work of a program",
        "The kernel's log has Xid 13 or 43: a program did what the GPU could not carry out, a fault of software in most cases.",
        "Start the server again where it hangs or failed; where it comes back, take another image or go without CUDA graphs.",
    ),
    "gpu.clock_unsure": Meaning(
        "A busy GPU with a low clock",
        "It reports that it is working, but a kernel that waits by spinning reads the same, and somebody may have set a cap.",
        "Let the kernel check put a load on it while nothing is served; `sudo nvidia-smi -rgc` removes a cap.",
    ),
    "gpu.clock_unknown": Meaning(
        "The driver does not say why the clock is low",
        "This driver does not know the field that names the reasons.",
        "Let the kernel check measure under load.",
    ),
    "gpu.clock_low": Meaning(
        "The GPU runs far below its clock under load",
        "Less than half of what it can do; Sparks are known to latch into this state after a power fault.",
        "Shut it down and take it off its power supply for some minutes; `sudo nvidia-smi -rgc` removes a cap that somebody set.",
    ),
    "gpu.power_limited": Meaning(
        "The GPU is slowed by a hardware fault of power or heat",
        "The driver names power brake or a hardware slowdown.",
        "Use the power supply that came with it, and check the airflow.",
    ),
    "gpu.hot": Meaning(
        "The GPU slows down by heat",
        "The driver lowers the clock to keep the temperature.",
        "Check the airflow.",
    ),
    "gpu.check_failed": Meaning(
        "A basic check of the GPU failed in the serving image",
        "The image does not see the GPU, or computes something wrong on it.",
        "See that driver and image fit together, or take another image; `dmesg | grep -i xid` shows faults.",
    ),
    "gpu.torch_broken": Meaning(
        "The image has no usable torch",
        "torch cannot be imported in the image.",
        "Take a serving image.",
    ),
    "gpu.load_failed": Meaning(
        "The GPU failed under load",
        "A few seconds of load ended in an error.",
        "Read `dmesg | grep -i xid`.",
    ),
    "gpu.ptxas_old": Meaning(
        "Triton's assembler does not know this GPU",
        "Kernels that Triton compiles would fail on a GB10 (sm_121a).",
        "Set TRITON_PTXAS_PATH to a newer ptxas, or take an image with CUDA 12.9 or newer.",
    ),
    "gpu.probe_failed": Meaning(
        "The kernel check's container failed",
        "Docker could not run it; the finding quotes Docker.",
        "Read `journalctl --unit docker`.",
    ),
    "gpu.probe_hangs": Meaning(
        "The kernel check hung",
        "A kernel hangs in a way that cannot be killed.",
        "Read `dmesg | grep -i xid` and reboot the node.",
    ),
    "gpu.capability_refused": Meaning(
        "What the model needs does not work here",
        "AWQ, NVFP4 or CUDA graphs are needed and gave wrong results, failed, or are known to fail with these versions.",
        "Take another image or another model, or do without (for graphs: stay eager).",
    ),
    "gpu.capability_untried": Meaning(
        "Should work, and was not tried between the nodes",
        "The kernels are right on one node; what only shows between the nodes has not been tried.",
        "site.yml tries CUDA graphs where `vllm_serve_cuda_graphs` is auto; compare answers for the rest.",
    ),
    "gpu.capability_unknown": Meaning(
        "Not known whether it works here",
        "The check that decides this did not run or did not end.",
        "See the findings of the checks before it, and run the kernel check again.",
    ),
    # --- docker ---
    "docker.missing": Meaning(
        "Docker is not installed",
        "There is no /usr/bin/docker on the node.",
        "Role container_runtime installs it.",
    ),
    "docker.silent": Meaning(
        "Docker's daemon does not answer",
        "The command is there and the daemon is not.",
        "Read `systemctl status docker` and `journalctl --unit docker`.",
    ),
    "docker.snap": Meaning(
        "Docker is a snap",
        "A snap sees neither /etc/cdi nor the node's secrets.",
        "`snap remove docker`, then run again: Docker is installed as a package.",
    ),
    "docker.settings_broken": Meaning(
        "daemon.json is not JSON",
        "Docker will not start with it.",
        "Correct /etc/docker/daemon.json, or remove it if you do not need it.",
    ),
    "docker.toolkit_missing": Meaning(
        "No NVIDIA container toolkit",
        "Without nvidia-ctk nothing writes the CDI specification.",
        "Role container_runtime installs it; where apt does not know it, name NVIDIA's repository in `container_runtime_repositories`.",
    ),
    "docker.toolkit_old": Meaning(
        "An old container toolkit",
        "Before 1.18 it does not renew the specification after a new driver.",
        "Upgrade it; until then our own unit renews the specification at boot.",
    ),
    "docker.without_cdi": Meaning(
        "Docker does not support CDI",
        "CDI came with Docker 25.",
        "Install a newer Docker.",
    ),
    "docker.cdi_off": Meaning(
        "CDI is switched off in Docker",
        "Up to Docker 28.1 it is an option that is off.",
        "Role container_runtime switches it on and restarts Docker.",
    ),
    "docker.device_unknown": Meaning(
        "No CDI specification names the GPU",
        "Containers cannot be given the GPU until one does.",
        "`systemctl restart nvidia-cdi-refresh.service`, or role container_runtime.",
    ),
    "docker.device_missing": Meaning(
        "Docker found no such device",
        "A device that containers are to be given is not on the node.",
        "See that the GPU and its driver are there.",
    ),
    "docker.device_twice": Meaning(
        "Two specifications of one folder name the GPU",
        "Runtimes take neither of them.",
        "Remove the one that nvidia-cdi-refresh.service does not write.",
    ),
    "docker.device_unseen": Meaning(
        "Docker does not list the GPU",
        "The specification names it and Docker does not take it up.",
        "Read `docker info` and `journalctl --unit docker`.",
    ),
    "docker.spec_unreadable": Meaning(
        "A file in the CDI folder is no specification",
        "It cannot be read here, and may be of another vendor.",
        "Remove it if nothing of yours needs it.",
    ),
    "docker.spec_shadowed": Meaning(
        "A second CDI specification goes stale",
        "The toolkit keeps the one below /var/run up to date, and nothing the one below /etc.",
        "Remove the one below /etc/cdi.",
    ),
    "docker.spec_stale": Meaning(
        "The CDI specification names files that do not exist",
        "No container with the GPU starts until it is regenerated.",
        "`systemctl restart nvidia-cdi-refresh.service`, or role container_runtime.",
    ),
    "docker.spec_other_driver": Meaning(
        "The CDI specification is for another driver",
        "It was written before the driver changed.",
        "`systemctl restart nvidia-cdi-refresh.service`, or role container_runtime.",
    ),
    "docker.spec_without_uvm": Meaning(
        "The CDI specification lacks /dev/nvidia-uvm",
        "It was written before that device node was there; no CUDA program starts in a container.",
        "Regenerate it: `systemctl restart spark-cdi.service`, or role container_runtime.",
    ),
    "docker.boot_order": Meaning(
        "Nothing orders the specification before the containers",
        "At boot containers may start before the specification is written.",
        "Role container_runtime installs spark-cdi.service.",
    ),
    "docker.not_tried": Meaning(
        "The GPU check of containers did not run",
        "While the cluster runs, or in check mode, no container is started for it.",
        "Nothing; stop the cluster to let it run.",
    ),
    "docker.gpu_missing": Meaning(
        "A container does not see its GPU",
        "nvidia-smi fails in a container that was given the GPU.",
        "Run `nvidia-smi` on the node; if that works, regenerate the CDI specification.",
    ),
    "docker.gpu_lost": Meaning(
        "A container loses its GPU",
        "At `systemctl daemon-reload` a running container loses the GPU, as it does with the legacy hook.",
        "Upgrade the container toolkit to 1.18 or newer and give the GPU by its CDI name.",
    ),
    "docker.uvm_missing": Meaning(
        "A container has no /dev/nvidia-uvm",
        "nvidia-smi works in it, CUDA does not.",
        "`systemctl restart spark-cdi.service`.",
    ),
    "docker.limit": Meaning(
        "A container does not get its limits",
        "Docker's own unit keeps it from having the open files or the locked memory that it was given.",
        "Look for LimitNOFILE and LimitMEMLOCK in `systemctl cat docker containerd`.",
    ),
    "docker.rdma_missing": Meaning(
        "A container sees no RDMA device",
        "NCCL in it would fall back to TCP.",
        "Load ib_uverbs and mlx5_ib on the node.",
    ),
    # --- fabric: the link ---
    "fabric.no_rdma_port": Meaning(
        "No ConnectX port",
        "The node shows no port with an RDMA device; NCCL would use TCP.",
        "Where the card is on the PCI bus, load mlx5_core and mlx5_ib; else plug the cable, reboot with it in place, and take the power away for a minute.",
    ),
    "fabric.card_off": Meaning(
        "DGX OS took the ConnectX off the bus",
        "Since DGX OS 7.5 the driver cx7-pcie-hotplug switches the card off where it sees no cable, some 20 s after boot, and when the other end goes down.",
        "Plug the cable into both nodes and reboot with it in place. To keep the card on without a cable, move /etc/nvidia/cx7-hotplug-enabled away and "
        "reboot. Never rescan the PCI bus meanwhile: kernels panicked.",
    ),
    "fabric.iommu": Meaning(
        "The IOMMU translates the card's accesses",
        "The kernel was booted with iommu.passthrough=0, or the card's group is not of kind identity; an owner's NCCL stayed at 3 GB/s so.",
        "Take iommu.passthrough=0 out of the kernel's command line (`/etc/default/grub.d`, `update-grub`) and reboot.",
    ),
    "fabric.no_link": Meaning(
        "No QSFP port has a link",
        "There is no cable, it does not sit, or the other node is off.",
        "Plug the cable into the same port of both nodes until it clicks, and switch the other node on.",
    ),
    "fabric.port_down": Meaning(
        "An interface of the link is down",
        "The port that this interface belongs to has no link.",
        "See that the cable sits in this port on both nodes and that the other node is on.",
    ),
    "fabric.port_speed": Meaning(
        "The port is slower than it can be",
        "It negotiated less than 200 Gb/s. At 100 it serves, with longer waits for long prompts; below that a cable or a port is wrong.",
        "Use an approved QSFP112 or QSFP56 cable; behind a switch fix the port at 200G, or set `fabric_accept_gbits` where its ports are split.",
    ),
    "fabric.pcie": Meaning(
        "The PCIe link behind the port is slow",
        "It runs with fewer lanes or at a lower rate than it can. Some partners' boxes always do.",
        "Update the firmware, then take the power away for a minute.",
    ),
    "fabric.address": Meaning(
        "An interface has another address",
        "The interface does not have its fabric address.",
        "Run site.yml with `fabric_manage: true`, or configure it yourself.",
    ),
    "fabric.no_holder": Meaning(
        "No interface holds the fabric address",
        "The node has neither the address nor a QSFP port with a cable.",
        "Correct `spark_fabric_address`, or plug the cable.",
    ),
    "fabric.mtu": Meaning(
        "An interface has another MTU",
        "Another one than `fabric_mtu` serves as well, if both ends have the same; below 1500 nothing does.",
        "Run site.yml with `fabric_manage: true`, or set `fabric_mtu` to what is there (1500, 9216).",
    ),
    "fabric.no_rdma_device": Meaning(
        "An interface has no RDMA device",
        "NCCL would use TCP over it.",
        "Load the kernel's mlx5_ib.",
    ),
    "fabric.no_gid": Meaning(
        "An RDMA device has no RoCE v2 address",
        "Its table of addresses lacks an entry for the interface's IPv4 address.",
        "Take the interface down and up again, or reboot.",
    ),
    "fabric.rdma_state": Meaning(
        "An RDMA device is not active",
        "The kernel's state of the device is not ACTIVE.",
        "Read `rdma link` and `dmesg`.",
    ),
    "fabric.link_local": Meaning(
        "An interface has a link-local address",
        "It shifts the indices of the RDMA addresses between the nodes.",
        "Set `link-local: []` in netplan, as `fabric_manage` writes it.",
    ),
    "fabric.one_twin": Meaning(
        "Half of the port is used",
        "Each QSFP port has two interfaces, and one alone carries half. The model serves; long prompts take longer.",
        "Add the other one to `fabric_interfaces`, or set `fabric_accept_one_twin: true`.",
    ),
    "fabric.subnet": Meaning(
        "Subnets collide",
        "Two interfaces would be in one subnet, or the subnet is used elsewhere on the node.",
        "Give each interface a subnet of its own, or choose another `spark_fabric_address`.",
    ),
    "fabric.other_interfaces": Meaning(
        "The nodes use different ports",
        "NCCL and Ray take one list of interface names for all nodes.",
        "Put the cable into the same port of both, or set `fabric_interfaces` per host.",
    ),
    "fabric.other_subnet": Meaning(
        "The ends are in different subnets",
        "Interfaces that belong together cannot reach each other.",
        "Correct `spark_fabric_address` or `fabric_addresses` of one of them.",
    ),
    "fabric.other_mtu": Meaning(
        "The ends have different MTUs",
        "Large packets would be lost.",
        "Set `fabric_mtu` the same for both.",
    ),
    "fabric.address_twice": Meaning(
        "Two nodes have one address",
        "The fabric address is given to both.",
        "Give one of them another `spark_fabric_address`.",
    ),
    "fabric.no_ping": Meaning(
        "ping is missing",
        "Without it the path to the other node cannot be tested.",
        "Install iputils-ping.",
    ),
    "fabric.packet_size": Meaning(
        "Large packets do not pass",
        "Small packets reach the other node, packets of full size do not.",
        "Set the same `fabric_mtu` on both nodes, and on a switch between them.",
    ),
    "fabric.peer_silent": Meaning(
        "The other node does not answer over the link",
        "No packet comes back over this interface.",
        "See that the other node has its address on the same interface, and that the cable is in the same port.",
    ),
    # --- fabric: measured ---
    "fabric.test_failed": Meaning(
        "A measurement gave no figure",
        "The tool failed or did not end in time.",
        "See that the other end runs the same test and that no firewall closes the port.",
    ),
    "fabric.no_result": Meaning(
        "A measurement said nothing that could be read",
        "The tool or the container printed no result.",
        "Run it again, and read the lines that the result keeps.",
    ),
    "fabric.rdma_silent": Meaning(
        "An RDMA device gave no bandwidth",
        "One of the two interfaces of the port took no part.",
        "See that it has an address and that the other node answers there.",
    ),
    "fabric.rdma_slow": Meaning(
        "RDMA is slow",
        "Far below every published figure of a sound link.",
        "See cable, port speed and MTU; reboot both nodes after a cable was reseated.",
    ),
    "fabric.rdma_low": Meaning(
        "RDMA is a little slow",
        "Below the published figures, and still sound.",
        "Nothing, unless you need the last percent.",
    ),
    "fabric.tcp_slow": Meaning(
        "TCP is slow",
        "The route uses another network, or the port is slow.",
        "See `ip route get` of the other node's address.",
    ),
    "fabric.no_uverbs": Meaning(
        "The serving container has no RDMA devices",
        "NCCL would silently use TCP.",
        "Add /dev/infiniband to `spark_devices`.",
    ),
    "fabric.uverbs_denied": Meaning(
        "The serving container may not open its RDMA devices",
        "They are there, and opening them fails.",
        "See `spark_devices` and what limits the container's devices.",
    ),
    "fabric.memlock": Meaning(
        "The serving container may lock too little memory",
        "RDMA needs it unlimited.",
        "Set `memlock: -1` in the ulimits of the containers.",
    ),
    "fabric.nccl_mute": Meaning(
        "NCCL does not say what it uses",
        "Its log does not name its transport.",
        "Run the benchmark again, and see that nothing sets NCCL_DEBUG.",
    ),
    "fabric.nccl_socket": Meaning(
        "NCCL uses TCP",
        "RDMA devices are there and NCCL does not use them.",
        "See /dev/infiniband and memlock in the container, and NCCL_IB_HCA.",
    ),
    "fabric.nccl_one_twin": Meaning(
        "NCCL uses half of the port",
        "One of the two RDMA devices is not used.",
        "Give that interface its address and name its device in NCCL_IB_HCA.",
    ),
    "fabric.nccl_one_link": Meaning(
        "NCCL is as fast as one twin",
        "Only one interface of a port is used, as set, and it is as fast as one interface can be.",
        "Name both in `fabric_interfaces`, or leave it so.",
    ),
    "fabric.nccl_gid": Meaning(
        "NCCL uses a link-local address",
        "RoCE v2 over IPv4 is expected.",
        "Give the interface an IPv4 address on both nodes.",
    ),
    "fabric.nccl_slow": Meaning(
        "NCCL is slow",
        "Far below the published figures.",
        "Fix the transport that other findings name. Where it is right, the finding names the cause that it saw on the node (IOMMU, "
        "hot-plug, PCIe, Xid, kernel, "
        "NCCL's version), or what owners found, in order.",
    ),
    "fabric.nccl_low": Meaning(
        "NCCL is a little slow",
        "Below the published figures, and still sound.",
        "Nothing, unless you need the last percent.",
    ),
    "fabric.nccl_failed": Meaning(
        "NCCL failed",
        "The test in the serving image ended with an error.",
        "Read the lines of NCCL's log that the result keeps, and check the link with `playbooks/fabric.yml`.",
    ),
    "fabric.nccl_wrong": Meaning(
        "NCCL gives wrong results",
        "Collectives between the nodes do not add up.",
        "Use another serving image, whose NCCL is newer.",
    ),
    "fabric.counter_still": Meaning(
        "An RDMA device carried no data",
        "Its counters hardly moved during the test: the data took another path.",
        "See NCCL's transport, and that NCCL_IB_HCA names the device.",
    ),
    "fabric.packets_lost": Meaning(
        "Packets were lost",
        "The card counted timeouts or packets out of order during the test.",
        "Reseat the cable or replace it; see the flow control of a switch between.",
    ),
    # --- image ---
    "image.missing": Meaning(
        "The image is not on the node",
        "Docker has no image of that name here.",
        "Run role serving_image, or site.yml.",
    ),
    "image.architecture": Meaning(
        "The image is for another architecture",
        "It cannot run on this node.",
        "Name one that is built for the node's architecture (arm64 on a Spark).",
    ),
    "image.no_python": Meaning(
        "The image cannot be inspected",
        "It has no python3 that runs, or the inspection printed nothing that could be read.",
        "Name a serving image.",
    ),
    "image.no_vllm": Meaning(
        "The image has no vLLM",
        "vLLM is missing, or its program is not on the PATH.",
        "Name an image that serves, NVIDIA's nvidia/vllm for example.",
    ),
    "image.old_vllm": Meaning(
        "The image's vLLM is too old",
        "This collection's flags are for newer versions.",
        "Name a newer image.",
    ),
    "image.ray_unusable": Meaning(
        "The image's Ray will not do",
        "Ray is missing, has no token authentication or no dashboard, or does not work with this vLLM.",
        "Set `serving_image_base`, on which the pinned Ray is added.",
    ),
    "image.ray_not_on_path": Meaning(
        "The image's Ray has no program",
        "The package is there and `ray` is not on the PATH.",
        "Set `serving_image_base` to another image.",
    ),
    "image.other_ray": Meaning(
        "The image came with another Ray",
        "It is good enough and is kept.",
        "Nothing.",
    ),
    "image.nccl_unknown": Meaning(
        "The image's NCCL was not found",
        "Nothing can be said of CUDA graphs from its version.",
        "Nothing, unless you want CUDA graphs: then name another image.",
    ),
    # --- hub ---
    "hub.not_there": Meaning(
        "The hub does not have it",
        "Repository, revision or file does not exist there, or not for this token.",
        "Check repository and revision; a private one needs a token of a user who may read it.",
    ),
    "hub.refused": Meaning(
        "The hub refuses",
        "The repository is gated, or the token may not read it.",
        "Accept its licence with your account, and set that account's token.",
    ),
    "hub.certificate": Meaning(
        "The hub's certificate is not trusted",
        "A TLS-intercepting proxy or a private hub uses its own certificate authority.",
        "Set `spark_ca_bundle` to that authority's certificate file.",
    ),
    "hub.unreachable": Meaning(
        "The hub cannot be reached",
        "No connection from the node, or no answer in time.",
        "Check the endpoint, the node's network and name service, or a proxy.",
    ),
    "hub.trouble": Meaning(
        "The hub answers with errors",
        "It answers with an error, or not like a Hugging Face hub.",
        "Try again later; check the endpoint where it stays.",
    ),
    "hub.store": Meaning(
        "The store cannot take the weights",
        "The disk is too small, a folder cannot be written, or a setting is wrong; the finding says which.",
        "Correct what it names, and run again.",
    ),
    "hub.download_runs": Meaning(
        "A download is under way",
        "The finding says how far it is.",
        "Wait for it.",
    ),
    "hub.download_failed": Meaning(
        "The download failed",
        "The last detached download ended with the quoted reason.",
        "Fix the reason and run site.yml again: it continues from there.",
    ),
    "hub.incomplete": Meaning(
        "Weights are missing",
        "The store does not hold all files of the revision.",
        "Run site.yml, which fetches what is missing.",
    ),
    "hub.damaged": Meaning(
        "Weights are damaged",
        "Files have another size or content than the manifest says.",
        "Run site.yml, which fetches just these.",
    ),
    "hub.not_verified": Meaning(
        "Weights are not verified",
        "All files are there, and no stamp proves their content.",
        "Run site.yml, which verifies and stamps them.",
    ),
    # --- service, ray, vllm ---
    "service.failed": Meaning(
        "A unit failed",
        "systemd has given up on it after several failed starts.",
        "Read its journal, fix the reason, and run site.yml.",
    ),
    "service.stopped": Meaning(
        "The stop flag is set",
        "`playbooks/stop.yml` ran; no unit starts until the flag is removed.",
        "Run `playbooks/start.yml`.",
    ),
    "service.remote_code": Meaning(
        "Code from the model's repository runs",
        "`vllm_serve_trust_remote_code` is on: Python files of the repository on the hub run in the serving containers.",
        "Set it to false where vLLM has the model's class itself; else read that code, and set `model_download_revision` to the commit that you read.",
    ),
    "service.waits": Meaning(
        "A unit is starting, or differs from its desired state",
        "A gate waits for something, readiness is being proven, or what runs differs from the settings.",
        "Wait, or read `systemctl status` of it; site.yml restarts what differs.",
    ),
    "ray.silent": Meaning(
        "Ray's dashboard does not answer",
        "The head is not running, or still starting.",
        "Look at `systemctl status spark-ray-head` on the head.",
    ),
    "ray.token_missing": Meaning(
        "Ray requires the cluster token",
        "The question was asked without one.",
        "Give the token file.",
    ),
    "ray.token_refused": Meaning(
        "Ray refuses the cluster token",
        "The head was started with another one.",
        "Run site.yml, which gives all nodes the same token.",
    ),
    "ray.unknown_answer": Meaning(
        "Something else answers in Ray's place",
        "The answer is not one of Ray's dashboard.",
        "See what listens on the dashboard's port.",
    ),
    "ray.incomplete": Meaning(
        "Ray has not the expected nodes and GPUs",
        "A node is missing, dead, unexpected or listed twice, or GPUs are missing.",
        "Wait where it just starts; else look at `systemctl status spark-ray-worker` on the missing node.",
    ),
    "vllm.silent": Meaning(
        "No server answers",
        "It is not running, or still loading the model.",
        "Look at `systemctl status spark-vllm` on the head.",
    ),
    "vllm.engine_dead": Meaning(
        "The engine is dead",
        "The server answers and its engine has died.",
        "Stop and start it with `playbooks/stop.yml` and `playbooks/start.yml`, and read its journal.",
    ),
    "vllm.not_vllm": Meaning(
        "Something else answers in vLLM's place",
        "/health answers neither 200 nor 503.",
        "See what listens there, and correct `spark_api_port`.",
    ),
    "vllm.unknown_answer": Meaning(
        "The server's answer cannot be used",
        "It is no HTTP answer of vLLM.",
        "See what listens on the port.",
    ),
    "vllm.no_model": Meaning(
        "The server lists no model",
        "It is healthy and does not say what it serves.",
        "Read `journalctl --unit spark-vllm` on the head.",
    ),
    "vllm.other_model": Meaning(
        "The server serves another model",
        "It runs with another served model name.",
        "Ask for that name, or run site.yml to serve the desired one.",
    ),
    "vllm.key_refused": Meaning(
        "The API key is refused",
        "It is not the one that the server was started with.",
        "`sudo cat /etc/dgx-spark/secrets/api_key` on the head.",
    ),
    "vllm.open_door": Meaning(
        "The server answers without a key",
        "A key is set, and requests without it are answered.",
        "Run site.yml, which starts vLLM with the key.",
    ),
    "vllm.no_answer": Meaning(
        "No usable answer",
        "A completion or a stream failed, was empty, or broke off; the finding says how.",
        "Read `journalctl --unit spark-vllm` on the head, and restart it.",
    ),
    "vllm.no_tool_call": Meaning(
        "No parsed tool call",
        "The model's call came back as text, broken, or not at all.",
        "Set `vllm_serve_tool_call_parser` to the model's; Qwen3 needs hermes.",
    ),
    # --- watchdog ---
    "watchdog.silent": Meaning(
        "The watchdog does not run",
        "`spark-watchdog` writes its state every other second, and that is missing or old. A server that hangs is found by nobody.",
        "Read `journalctl -u spark-watchdog` on the head and run `playbooks/site.yml`.",
    ),
    "watchdog.hung": Meaning(
        "The endpoint hangs",
        "Requests run and nothing moves for longer than a step of prefill takes on this machine, or a completion of one token does not come back. "
        "`/health` may be green meanwhile.",
        "The watchdog keeps evidence and starts the server again by itself; with `vllm_watchdog_act: false`, run `playbooks/restart.yml`.",
    ),
    "watchdog.held": Meaning(
        "The watchdog stopped the endpoint",
        "It failed too often by the same cause, and another start would only repeat it.",
        "Read the evidence that the finding names, remove the cause, and run `playbooks/start.yml`: failures then count from the beginning.",
    ),
    "watchdog.saturated": Meaning(
        "Requests wait",
        "Tokens flow, and more requests came than run together.",
        "Wait or send fewer at once; see `vllm_serve_max_num_seqs` and the KV cache in `playbooks/plan.yml`.",
    ),
    "watchdog.stopped": Meaning(
        "The operator stopped the endpoint",
        "The stop flag is set.",
        "Run `playbooks/start.yml`.",
    ),
    "watchdog.starting": Meaning(
        "The endpoint starts or drains",
        "A gate waits, the model is loaded, or running requests are finished before a stop.",
        "Wait; the finding says for what.",
    ),
    "watchdog.dead": Meaning(
        "The server does not run",
        "Its unit is neither active nor starting, or waits a few seconds before its next start.",
        "Where it does not start again, run `playbooks/start.yml`.",
    ),
    "watchdog.node_silent": Meaning(
        "A node does not report",
        "The follower of a further node reports every other second, and does not. No start goes on without it.",
        "See that the node runs, that its cable is in, and that `spark-follower` is active there.",
    ),
    "watchdog.recovered": Meaning(
        "The endpoint failed within the last day",
        "The finding says when, why, and after how long it served again. Failures are forgiven one by one while it serves.",
        "Read the evidence folder that it names, or the journal of `spark-watchdog`.",
    ),
    # --- benchmark ---
    "benchmark.tcp": Meaning(
        "The ranks talk over TCP",
        "NCCL's log or the link's counters say so; tensor parallel waits for the network at every layer.",
        "Run `playbooks/fabric.yml`, which names what keeps RDMA out.",
    ),
    "benchmark.clock": Meaning(
        "The GPU was throttled",
        "It ran slower than it can while it had work.",
        "Improve its airflow and use its own power supply; take it off its power supply for a minute where no reason is named.",
    ),
    "benchmark.swap": Meaning(
        "The node swapped",
        "Memory that the run needed was swapped out.",
        "Lower `vllm_serve_gpu_memory_utilization`, or stop what else holds memory.",
    ),
    "benchmark.eager": Meaning(
        "CUDA graphs are off",
        "The CPU launches every kernel of every token.",
        "Set `vllm_serve_cuda_graphs: auto`.",
    ),
    "benchmark.other_requests": Meaning(
        "Others used the endpoint",
        "Requests that were not ours were answered during the run.",
        "Measure again while nobody uses it.",
    ),
    "benchmark.gpu_shared": Meaning(
        "Others use the GPU",
        "Programs outside of our containers hold its memory.",
        "Stop them, and measure again.",
    ),
    "benchmark.node_busy": Meaning(
        "The node was busy",
        "More processes wanted to run than it has cores.",
        "See what runs there, stop it, and measure again.",
    ),
    "benchmark.preemption": Meaning(
        "The KV cache was full",
        "Requests were preempted and recomputed.",
        "Give the cache more memory, keep it in fp8, or take fewer requests at a time.",
    ),
    "benchmark.small_batch": Meaning(
        "The server batches less than was sent",
        "`--max-num-seqs` or `--max-num-batched-tokens` is small.",
        "Raise it where memory allows.",
    ),
    "benchmark.prefix_cache": Meaning(
        "Prompts came from the prefix cache",
        "The prefill rate looks better than it is.",
        "Use longer prompts, so that no two begin alike.",
    ),
    "benchmark.above_limit": Meaning(
        "Faster than memory bandwidth allows",
        "The plan's bandwidth is wrong, or the server uses speculative decoding.",
        "Check the plan's `memory_bandwidth_gb_s`; speculative decoding beats this limit by design.",
    ),
    # --- cluster ---
    "cluster.architecture": Meaning(
        "Nodes of different architectures", "One serving image runs on all nodes.", "Use machines of one kind."
    ),
    "cluster.operating_system": Meaning(
        "Different operating systems",
        "The nodes have different releases, or one does not say.",
        "Bring all to the same release.",
    ),
    "cluster.dgx_os": Meaning(
        "Different DGX OS", "The nodes have different releases of DGX OS.", "Bring all to the same release."
    ),
    "cluster.kernel": Meaning(
        "Different kernels",
        "Faults that come and go with the node are hard to find then.",
        "Bring all to the same kernel and reboot.",
    ),
    "cluster.firmware": Meaning(
        "Different firmware", "The machines' firmware differs.", "`sudo fwupdmgr refresh && sudo fwupdmgr upgrade`."
    ),
    "cluster.nic_firmware": Meaning(
        "Different ConnectX firmware",
        "The firmware of the network cards differs.",
        "`sudo fwupdmgr refresh && sudo fwupdmgr upgrade`.",
    ),
    "cluster.driver": Meaning(
        "Different NVIDIA drivers",
        "Another branch is red: the image's CUDA may need the newer one. Within one branch it is yellow.",
        "Bring all to the same driver and reboot.",
    ),
    "cluster.toolkit": Meaning(
        "Different container toolkits", "The nodes' container toolkits differ.", "Bring all to the same version."
    ),
    "cluster.clocks": Meaning(
        "The nodes' clocks differ",
        "Times in logs, ages of files and the time of a start cannot be compared between the nodes.",
        "Let a time server set them on all nodes.",
    ),
    "cluster.docker": Meaning(
        "Different Dockers",
        "Image ids and defaults changed between releases.",
        "Bring all to the same version.",
    ),
}
