#!/usr/bin/env python3
"""Compare tbg's force fields with OpenMM's, which builds its own systems from its own files: energies per force of every
dipeptide (and whatever sequences are given), reference engine against OpenMM's Reference platform.

Needs OpenMM's Python package (Debian python3-simtk: run with /usr/bin/python3). For checking only.

usage: python3 tools/compare_with_openmm.py [--tbg build/tbg] [SEQUENCE ...]
"""
import argparse
import itertools
import json
import os
import subprocess
import tempfile

import openmm
from openmm import app, unit

FORCEFIELDS = {
    "amber14-obc1": (("amber14-all.xml", "implicit/obc1.xml"),
                     dict(nonbondedMethod=app.CutoffNonPeriodic, nonbondedCutoff=2.0 * unit.nanometer)),
    "amber99sbildn-obc": (("amber99sbildn.xml", "amber99_obc.xml"), dict(nonbondedMethod=app.NoCutoff)),
}


def openmm_energies(pdb, forcefield, options):
    system = forcefield.createSystem(pdb.topology, constraints=None, **options)
    names = {}
    for group, force in enumerate(system.getForces()):
        force.setForceGroup(group)
        names[group] = type(force).__name__
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(pdb.positions)
    kj = unit.kilojoule_per_mole
    return {name: context.getState(getEnergy=True, groups=1 << group).getPotentialEnergy().value_in_unit(kj)
            for group, name in names.items() if name != "CMMotionRemover"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tbg", default="build/tbg")
    parser.add_argument("sequences", nargs="*")
    arguments = parser.parse_args()
    letters = "ACDEFGHIKLMNPQRSTVWY"
    sequences = arguments.sequences or ["".join(p) for p in itertools.product(letters, repeat=2)]
    fields = {name: (app.ForceField(*files), options) for name, (files, options) in FORCEFIELDS.items()}
    worst, where, n = 0.0, "", 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.pdb")
        for sequence in sequences:
            subprocess.run([arguments.tbg, "build", sequence, "--no-minimize", "-o", path], check=True,
                           stderr=subprocess.DEVNULL)
            pdb = app.PDBFile(path)
            for name, (field, options) in fields.items():
                theirs = openmm_energies(pdb, field, options)
                ours = json.loads(subprocess.run(
                    [arguments.tbg, "energy", path, "-f", name, "-e", "reference", "--json"], check=True,
                    stdout=subprocess.PIPE).stdout)["components_kj_mol"]
                if set(ours) != set(theirs):
                    raise SystemExit(f"{sequence} {name}: {sorted(ours)} against {sorted(theirs)}")
                for force, energy in theirs.items():
                    error = abs(ours[force][0] - energy) / max(1.0, abs(energy))
                    if not error <= worst:
                        worst, where = error, f"{sequence} {name} {force}: {ours[force][0]!r} against {energy!r}"
                n += 1
    print(f"{n} systems, largest relative difference of a component (to 1 kJ/mol at least): {worst:.2g}\n{where}")


main()
