"""The configuration files of a cluster folder."""

import secrets
import socket
from contextlib import ExitStack
from pathlib import Path

CLUSTER = "wavslm"
CPUS_PER_NODE = 2
"""Of each virtual node, however many the machine has."""
GRACE_S = 20
"""Between a preempted job's signal and its end."""
KILL_WAIT_S = 5
"""Between SIGTERM and SIGKILL."""


def write(folder: Path, nodes: tuple[str, ...]) -> None:
    """Write all of them, with ports that are free now."""
    controller, accounting, data_base, *node_ports = _free_ports(3 + len(nodes))
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    for file_folder in (folder, folder / "munge"):
        # munged refuses folders that others may write into.
        file_folder.chmod(0o755)
    (folder / "mariadb.cnf").write_text(_mariadb(folder, data_base))
    slurmdbd = folder / "slurmdbd.conf"
    slurmdbd.write_text(_slurmdbd(folder, accounting, data_base))
    slurmdbd.chmod(0o600)
    (folder / "slurm.conf").write_text(_slurm(folder, nodes, node_ports, controller, accounting))


def _free_ports(count: int) -> list[int]:
    """Return different ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _mariadb(folder: Path, port: int) -> str:
    return f"""\
[mariadbd]
user=root
datadir={folder}/data
# A data base that starts removes the temporary tables that lie there, also those of others.
tmpdir={folder}/temporary
socket={folder}/data/socket
pid-file={folder}/data/pid
bind-address=127.0.0.1
port={port}
performance-schema=OFF
innodb-buffer-pool-size=32M
# The kernel's queues are few, and several data bases on one machine may use them up.
innodb-use-native-aio=OFF
innodb-flush-log-at-trx-commit=0
innodb-lock-wait-timeout=900
"""


def _slurmdbd(folder: Path, port: int, data_base_port: int) -> str:
    return f"""\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdPort={port}
SlurmUser=root
PidFile={folder}/spool/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={data_base_port}
StorageUser=root
StorageLoc=slurm_acct
"""


def _slurm(
    folder: Path, nodes: tuple[str, ...], node_ports: list[int], port: int, accounting_port: int
) -> str:
    host = socket.gethostname().split(".")[0]
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={CPUS_PER_NODE} "
        f"RealMemory={_memory_mb()} State=UNKNOWN"
        for node, node_port in zip(nodes, node_ports, strict=True)
    ]
    every = ",".join(nodes)
    return f"""\
ClusterName={CLUSTER}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its credential is too old to be used twice: two minutes
# unless told otherwise, five seconds at the least.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/spool/slurmctld.pid
SlurmdPidFile={folder}/spool/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={accounting_port}
# With munge, this is the place of its socket.
AccountingStoragePass={folder}/munge/socket
JobAcctGatherType=jobacct_gather/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# Virtual nodes have the CPUs that stand below, not those that slurmd counts.
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,preempt_youngest_first
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait={KILL_WAIT_S}
OverTimeLimit=0
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=60
MaxArraySize=1001
{chr(10).join(lines)}
PartitionName=main Nodes={every} Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime={GRACE_S}
PartitionName=high Nodes={every} Default=NO State=UP PriorityTier=10 PreemptMode=OFF
"""


def _memory_mb() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError("/proc/meminfo has no MemTotal")
