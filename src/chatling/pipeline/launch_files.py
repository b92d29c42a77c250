"""Files that start a run on a cluster, in a cloud or on two DGX Sparks, with the plan's numbers."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from chatling.hardware.machines import NamedMachine
from chatling.pipeline.cloud_files import IMAGE, kubernetes, sky
from chatling.pipeline.plan import Plan
from chatling.pipeline.timetable import DISK_RATE, Throughput, seconds, timetable
from chatling.terminal.progress import duration

MOST_HOURS = 24  # of a job; what is left then, the next one does
MARGIN = 60  # seconds to stop in, besides a step and a checkpoint

SLURM = """\
#!/bin/bash
# $title
# Hand in with sbatch. A job that is stopped, for its time or for a more urgent one, saves and goes
# back into the queue; a process or a node that is lost starts again.
#SBATCH --job-name=$run
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=$processes
#SBATCH --exclusive
#SBATCH --time=$hours:00:00
#SBATCH --signal=TERM@$notice
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

host=$$(scontrol show hostnames "$$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=0 bash -c 'exec "$$@" --node-rank "$$SLURM_NODEID"' node \\
    $command \\
    --nodes "$$SLURM_NNODES" --rendezvous "$$host:29400"
code=$$?
if [ "$$code" -eq 75 ]; then
    scontrol requeue "$$SLURM_JOB_ID"
fi
exit "$$code"
"""

SPARK_PAIR = """\
#!/bin/bash
# $title
# On the first of two DGX Sparks, joined by one cable: bash FILE 0; on the second: bash FILE 1.
set -euo pipefail
rank=$$1

# One socket shows as two ports, each with half of its 200 Gb/s: both need an address and packets of
# 9,000 bytes. Of the two sockets, this is the one whose names end in f1np1; see `ip link`.
ports=(enp1s0f1np1 enP2p1s0f1np1)
for half in 0 1; do
    sudo ip address replace "10.$$((10 + half)).0.$$((rank + 1))/24" dev "$${ports[$$half]}"
    sudo ip link set "$${ports[$$half]}" mtu 9000 up
done
ping -c 1 -W 5 "10.10.0.$$((2 - rank))" > /dev/null || echo "The other Spark does not answer yet."

export NCCL_SOCKET_IFNAME=$${ports[0]} GLOO_SOCKET_IFNAME=$${ports[0]}
export NCCL_IB_HCA=rocep1s0f1,roceP2p1s0f1  # both halves
export NCCL_DEBUG=WARN

exec $command \\
    --nodes 2 --node-rank "$$rank" --rendezvous 10.10.0.1:29400
"""

SKY = """\
# $title
# For SkyPilot, in a checkout of chatling: sky jobs launch FILE. What is stopped or preempted saves,
# and resumes on other machines from the bucket that holds its home.
"""

KUBERNETES = """\
# $title
# For kubectl apply. $image: one that has chatling. The claim `chatling`, a volume that all pods
# write to, holds the runs. A pod that is stopped saves, and starts again.
"""

SCRIPTS = {"slurm": SLURM, "spark-pair": SPARK_PAIR}
FORMS = (*SCRIPTS, "sky", "kubernetes")


@dataclass(frozen=True)
class Script:
    """What a script is made of."""

    run: str
    words: Sequence[str]
    plan: Plan
    rates: Throughput
    machine: NamedMachine

    def render(self, form: str) -> str:
        """The file of that form. Raises MachineError where the machine is not to be had there."""
        plan, rates = self.plan, self.rates
        whole = seconds(plan, rates)
        times = {time.name: time for time in timetable(plan, rates)}
        step = max(
            (times[stage.name].computing + times[stage.name].communication) / stage.steps
            for stage in plan.stages
        )
        title = (
            f"{self.run}: {plan.parameters['total'] / 1e9:.2f} B parameters on {rates.ranks} GPUs,"
            f" {duration(whole)} by the plan, at most {step:.1f} s a step"
        )
        saving = plan.disk["a checkpoint being written"] / DISK_RATE
        notice = MARGIN + math.ceil(2 * step + saving)
        key, gpus, nodes = self.machine.key, self.machine.gpus, self.machine.nodes
        command = ["chatling", "launch", *self.words, "--processes", str(gpus)]
        if form == "sky":
            return Template(SKY).substitute(title=title) + sky(self.run, key, gpus, nodes, command)
        if form == "kubernetes":
            body = kubernetes(self.run, key, gpus, nodes, command, notice)
            return Template(KUBERNETES).substitute(title=title, image=IMAGE) + body
        return Template(SCRIPTS[form]).substitute(
            title=title,
            run=self.run,
            nodes=nodes,
            processes=gpus,
            hours=min(MOST_HOURS, math.ceil(whole / 3600 * 1.25)),
            notice=notice,
            command=shlex.join(command),
        )
