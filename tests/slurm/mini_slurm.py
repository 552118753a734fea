"""A Slurm of two nodes on this machine's loopback: one controller, two slurmd, no database.

Needs Debian's slurm-wlm and munge, and root. Nothing outside its folder is written, but munge's
own files; what it started is what it stops. By hand:

    python tests/slurm/mini_slurm.py snakemake --profile profiles/slurm -n
"""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
NODES = ("n1", "n2")

SLURM_CONF = """
ClusterName=mini
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
ReturnToService=2
MessageTimeout=5
MinJobAge=3600
SchedulerParameters=batch_sched_delay=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
GresTypes=gpu
NodeName=DEFAULT CPUs=2 RealMemory=20000 Gres=gpu:2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


class MiniSlurm:
    """The cluster; `env` is what a process needs to talk to it."""

    def __init__(self, folder, path=()):
        self.folder = folder
        self.env = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(folder / "bin"), *map(str, path), os.environ["PATH"]]),
        }
        self._munged = None

    @staticmethod
    def missing():
        """Why this machine cannot have one, or nothing."""
        for program in ("slurmctld", "slurmd", "munged"):
            if not shutil.which(program, path="/usr/sbin:/usr/bin:" + os.environ["PATH"]):
                return f"{program} is not installed (Debian: apt-get install slurm-wlm munge)"
        return "it needs root" if os.geteuid() else ""

    def start(self):
        for part in ("state", "spool/n1", "spool/n2"):
            (self.folder / part).mkdir(parents=True)
        settings = {"host": socket.gethostname(), "folder": self.folder, "ports": free_ports(3)}
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**settings))
        # Devices that count as GPUs; Slurm wants each to be one of its own.
        for i in range(2):
            os.mknod(self.folder / f"gpu{i}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-1]\n")
        # The plugin's inner srun gets no SLURM_CONF: on a real cluster there is one in /etc.
        srun = self.folder / "bin/srun"
        srun.parent.mkdir()
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.env["SLURM_CONF"]} exec /usr/bin/srun "$@"\n')
        srun.chmod(0o755)
        self._start_munge()
        self.start_controller()
        for node in NODES:
            self.start_node(node)

    def _start_munge(self):
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
            return
        run = Path("/run/munge")
        run.mkdir(exist_ok=True)
        shutil.chown(run, "munge", "munge")
        self._munged = subprocess.Popen(
            ["/usr/sbin/munged", "--foreground"],
            user="munge",
            group="munge",
            extra_groups=[],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(
            lambda: (
                subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0
            ),
            "munged",
        )

    def start_controller(self):
        self._run("slurmctld")

    def start_node(self, node):
        self._run("slurmd", "-N", node)
        wait_for(lambda: self.state(node) in ("idle", "mixed", "allocated"), f"node {node}")

    def stop_controller(self):
        stop(self._pid("slurmctld"))

    def crash_node(self, node):
        """Everything on a node dies at once, as when its power fails."""
        for process in processes_of(self._pid(f"slurmd.{node}")):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._kill_jobs(self._run("squeue", "-h", "-w", node, "-t", "R", "-o", "%A").split())
        self._run("scontrol", "update", f"nodename={node}", "state=down", "reason=crash")

    def wait_requeued(self, number):
        """Wait until a job waits again, and let it start now, not after Slurm's two minutes."""

        def waits():
            return self._run("squeue", "-h", "-j", str(number), "-o", "%T").strip() == "PENDING"

        wait_for(waits, f"job {number} in the queue")
        self._run("scontrol", "update", f"jobid={number}", "StartTime=now")

    def node_logs(self):
        return "".join((self.folder / f"slurmd.{node}.log").read_text() for node in NODES)

    def stop(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self._kill_jobs(self._run("squeue", "-h", "-o", "%A").split())
        for daemon in ("slurmctld", *(f"slurmd.{node}" for node in NODES)):
            with contextlib.suppress(FileNotFoundError):
                stop(self._pid(daemon))
        if self._munged:
            stop(self._munged.pid)
            self._munged.wait()

    def pause(self, number, script):
        """Hold a job's script where it is; whatever signal Slurm sends lets it go on first."""
        held = [p for p in self._processes_of_jobs([str(number)]) if runs(p, script)]
        assert held, f"job {number} runs no {script}"
        for process in held:
            process.suspend()

    def resume(self, number):
        for process in self._processes_of_jobs([str(number)]):
            process.resume()

    def _kill_jobs(self, numbers):
        for process in self._processes_of_jobs(numbers):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _processes_of_jobs(self, numbers):
        """Every process of these jobs of this cluster, wherever it hangs in the tree."""
        for process in psutil.process_iter(["environ", "cmdline"]):
            own = process.info["environ"] or {}
            ours = own.get("SLURM_CONF") == self.env["SLURM_CONF"]
            if ours and own.get("SLURM_JOB_ID") in numbers:
                yield process

    def state(self, node):
        try:
            return self._run("sinfo", "-h", "-N", "-n", node, "-o", "%T").split()[0].rstrip("*")
        except (subprocess.CalledProcessError, IndexError):
            return "unknown"

    def jobs(self):
        """Jobs that wait or run: {number: its comment, which names rule and wildcards}."""
        lines = self._run("squeue", "-h", "-o", "%A|%k").splitlines()
        return {int(n): comment for n, comment in (line.split("|", 1) for line in lines)}

    def __call__(self, *command):
        """Run a command on the cluster; its output."""
        return self._run(*command)

    def _run(self, *command):
        path = "/usr/sbin:" + self.env["PATH"]
        return subprocess.run(
            [shutil.which(command[0], path=path), *command[1:]],
            env=self.env,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    def _pid(self, daemon):
        return int((self.folder / f"{daemon}.pid").read_text())


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return value


def processes_of(pid):
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def runs(process, script):
    return any(part.endswith(script) for part in process.info["cmdline"] or ())


def stop(pid):
    """End a daemon and wait until it has gone; a zombie that nobody reaps has gone too."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: gone(pid), f"the end of process {pid}")


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def main():
    """Run the command given as arguments with such a cluster at hand."""
    if reason := MiniSlurm.missing():
        sys.exit(f"error: {reason}")
    with tempfile.TemporaryDirectory(prefix="mini-slurm-") as folder:
        cluster = MiniSlurm(Path(folder), [ROOT / "profiles/slurm/no-database"])
        try:
            cluster.start()
            sys.exit(subprocess.run(sys.argv[1:], env=cluster.env, check=False).returncode)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
