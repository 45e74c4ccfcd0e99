"""OpenMM on one core: python3 openmm_peer.py FILE.pdb FORCEFIELD -> lines "platform what per-second".

what: energy+forces (getState) and dynamics (Langevin steps). The processor time of this process is used, the best of
several stretches, as bench/energy.c does.
"""
import os
import sys
import time

os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[-1]])
from openmm import LangevinMiddleIntegrator, Context, Platform, unit
from openmm.app import PDBFile, ForceField, NoCutoff, CutoffNonPeriodic

pdb = PDBFile(sys.argv[1])
if sys.argv[2] == "amber14-obc1":
    field = ForceField("amber14/protein.ff14SB.xml", "implicit/obc1.xml")
    options = dict(nonbondedMethod=CutoffNonPeriodic, nonbondedCutoff=2.0 * unit.nanometer)
else:
    field = ForceField("amber99sbildn.xml", "amber99_obc.xml")
    options = dict(nonbondedMethod=NoCutoff)
system = field.createSystem(pdb.topology, constraints=None, **options)


def best(run, count):
    rate = 0.0
    for _ in range(5):
        start = time.process_time()
        run(count)
        rate = max(rate, count / (time.process_time() - start))
    return rate


for name in ("CPU", "Reference"):
    try:
        platform = Platform.getPlatformByName(name)
    except Exception:
        continue
    integrator = LangevinMiddleIntegrator(300, 1, 0.0005)
    properties = {"Threads": "1"} if name == "CPU" else {}
    context = Context(system, integrator, platform, properties)
    context.setPositions(pdb.positions)
    integrator.step(20)

    def evaluate(count):
        for _ in range(count):
            context.getState(getEnergy=True, getForces=True)

    print(name, "dynamics", best(integrator.step, 300), flush=True)
    print(name, "energy+forces", best(evaluate, 100), flush=True)
