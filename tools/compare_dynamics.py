#!/usr/bin/env python3
"""Compare tbg's dynamics with OpenMM's: the same force field, start structures, integrator (LangevinMiddle), time step,
friction and temperature; mean energies by component, kinetic temperature, mean and variance of every bond and angle,
histograms of phi and psi, each difference in units of its statistical error.

Each start is a structure that `tbg simulate` uses for its independent runs (random torsions, minimised). From each, tbg
runs 16 conformations (one SIMD block) and OpenMM one, on one thread, OpenMM as long as --openmm-seconds allows (tbg
then as long in simulated time). The first tenth is dropped. How often such short runs visit which conformation is a
matter of chance, and moves every mean; so means are compared conformation by conformation: cells of 60 degrees in all phi
and psi, tbg's cell means weighted as OpenMM visited the cells. The
histograms of phi and psi are compared by themselves, among the frames of the state of phi (inside or outside 0 < phi < 2)
that both have seen most, since flips of it are the rarest. Errors: variance within runs with the statistical
inefficiency of each series, or the spread between tbg's runs (as many as 16 for each of OpenMM's, of the same length) if
that is larger.

Needs OpenMM's Python package (Debian python3-simtk: run with /usr/bin/python3). For checking only.

usage: python3 tools/compare_dynamics.py SEQUENCE FORCEFIELD [--starts 6] [--openmm-seconds 120] [--seed 1] [--tbg build/tbg]
       [--keep FILE: save the series there, or only compare those saved]
"""
import argparse
import json
import math
import os
import pickle
import subprocess
import tempfile
import time

os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[-1]])
import numpy
import openmm
from openmm import app, unit

FORCEFIELDS = {
    "amber14-obc1": (("amber14-all.xml", "implicit/obc1.xml"), 310.0, 0.0005, "CPU",
                     dict(nonbondedMethod=app.CutoffNonPeriodic, nonbondedCutoff=2.0 * unit.nanometer)),
    "amber99sbildn-obc": (("amber99sbildn.xml", "amber99_obc.xml"), 300.0, 0.001, "Reference",
                          dict(nonbondedMethod=app.NoCutoff)),
}
FRICTION = 1.0  # 1/ps
INTERVAL = 0.1  # ps between frames
LANES = 16
GAS = 0.00831446261815324  # kJ/mol/K


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    types = {"F64": numpy.float64, "F32": numpy.float32}
    return {name: numpy.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]], types[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


def tbg(arguments, *command):
    return subprocess.run([arguments.tbg, *command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def write_pdb(template, positions, path):
    """The template's atoms at other positions (nm)."""
    with open(template) as f, open(path, "w") as out:
        i = 0
        for line in f:
            if line.startswith(("ATOM", "HETATM")):
                x, y, z = positions[i] * 10
                line = f"{line[:30]}{x:8.3f}{y:8.3f}{z:8.3f}{line[54:]}"
                i += 1
            out.write(line)


def make_starts(arguments, folder, temperature):
    """PDB files of the structures from which tbg's runs start (their first step)."""
    data = os.path.join(folder, "starts.nc")
    step = str(FORCEFIELDS[arguments.forcefield][2])
    tbg(arguments, "simulate", arguments.sequence, "-f", arguments.forcefield, "--runs", str(arguments.starts), "-q",
        "--time", str(float(step) / 1000), "--save-every", step, "--equilibrate", "0", "--threads", "1", "-o", data)
    table = os.path.join(folder, "starts.safetensors")
    topology = os.path.join(folder, "starts.pdb")
    tbg(arguments, "energy", topology, data, "-f", arguments.forcefield, "--forces", table)
    paths = []
    for k, x in enumerate(read_safetensors(table)["positions"]):
        paths.append(os.path.join(folder, f"start{k}.pdb"))
        write_pdb(topology, x, paths[-1])
    return paths


def run_openmm(arguments, start, index, seconds):
    """Frames [n][atoms][3], components {name: [n]}, kinetic temperature [n] of one run from `start`."""
    files, temperature, step, platform, options = FORCEFIELDS[arguments.forcefield]
    pdb = app.PDBFile(start)
    system = app.ForceField(*files).createSystem(pdb.topology, constraints=None, removeCMMotion=False, **options)
    names = []
    for group, force in enumerate(system.getForces()):
        force.setForceGroup(group)
        names.append(type(force).__name__)
    integrator = openmm.LangevinMiddleIntegrator(temperature, FRICTION, step)
    integrator.setRandomNumberSeed(1000 * arguments.seed + index)
    platform = openmm.Platform.getPlatformByName(platform)
    context = openmm.Context(system, integrator, platform, {"Threads": "1"} if platform.getName() == "CPU" else {})
    context.setPositions(pdb.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 1.0)
    context.setVelocitiesToTemperature(temperature, 1000 * arguments.seed + 500 + index)
    masses = numpy.array([system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())])
    frames, kinetic, energies = [], [], {name: [] for name in names}
    end = time.process_time() + seconds
    while time.process_time() < end:
        integrator.step(round(INTERVAL / step))
        state = context.getState(getPositions=True, getVelocities=True)
        frames.append(state.getPositions(asNumpy=True)._value)
        v = state.getVelocities(asNumpy=True)._value
        kinetic.append((masses[:, None] * v * v).sum() / (3 * len(masses) * GAS))
        for group, name in enumerate(names):
            energies[name].append(context.getState(getEnergy=True, groups=1 << group).getPotentialEnergy()._value)
    return numpy.array(frames), {k: numpy.array(v) for k, v in energies.items()}, numpy.array(kinetic)


def run_tbg(arguments, start, index, picoseconds, folder):
    """The same as lists over the conformations, but the kinetic temperature is one mean of all."""
    step = FORCEFIELDS[arguments.forcefield][2]
    data = os.path.join(folder, f"run{index}.nc")
    table = os.path.join(folder, f"run{index}.safetensors")
    diagnostics = json.loads(tbg(
        arguments, "simulate", start, "-f", arguments.forcefield, "--runs", str(LANES), "--same-start", "--threads", "1",
        "--friction", str(FRICTION), "--timestep", str(step * 1000), "--seed", str(1000 * arguments.seed + index), "-q", "--json",
        "--equilibrate", str(picoseconds / 10 / 1000), "--time", str(picoseconds * 0.9 / 1000), "--save-every",
        str(INTERVAL), "-o", data))
    report = json.loads(tbg(arguments, "energy", start, data, "-f", arguments.forcefield, "--json", "--forces", table))
    x = read_safetensors(table)["positions"]
    n = len(x) // LANES
    parts = {name: numpy.array(v).reshape(LANES, n) for name, v in report["components_kj_mol"].items()}
    return x.reshape(LANES, n, *x.shape[1:]), parts, diagnostics["temperatures"][0]["kinetic_temperature_k"]


def inefficiency(a):
    """1 + 2 sum of the autocorrelation up to its first zero, as src/dynamics/statistics.c."""
    a = a - a.mean()
    variance = (a * a).mean()
    if not variance > 0:
        return float(len(a))
    n = len(a)
    spectrum = numpy.fft.rfft(a, 2 * n)
    c = numpy.fft.irfft(spectrum * spectrum.conj())[:n] / (n - numpy.arange(n)) / variance
    zero = numpy.argmax(c <= 0) or n
    return max(1.0, 1 + 2 * (c[1:zero] * (1 - numpy.arange(1, zero) / n)).sum())


def mean_and_error(runs, like=None):
    """Mean of all values of all runs and its squared error; runs: list of series of any length. like: many runs of the
    same length and, if the two programs agree, the same spread between runs: it shows what is slower than a run."""
    runs = [numpy.asarray(a, dtype=float) for a in runs if len(a) > 20]
    n = sum(map(len, runs))
    mean = sum(a.sum() for a in runs) / n
    variance = sum(((a - mean)**2).sum() for a in runs) / n
    g = sum(inefficiency(a) * len(a) for a in runs) / n if variance > 0 else 1.0
    square = variance * g / n
    means = [a.mean() for a in (like or runs) if len(a) > 20]
    if len(means) > 2:
        square = max(square, float(numpy.var(means, ddof=1)) * sum((len(a) / n)**2 for a in runs))
    return mean, square


def measures(topology_pdb):
    """Atom tuples of bonds, angles and of phi and psi."""
    topology = app.PDBFile(topology_pdb).topology
    bonds = [(a.index, b.index) for a, b in topology.bonds()]
    neighbours = {}
    for a, b in bonds:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    angles = [(a, j, b) for j, near in neighbours.items() for k, a in enumerate(near) for b in near[k + 1:]]
    residues = [{atom.name: atom.index for atom in residue.atoms()} for residue in topology.residues()]
    torsions = []
    for k, atoms in enumerate(residues):
        if {"N", "CA", "C"} <= set(atoms):
            if k > 0 and "C" in residues[k - 1]:
                torsions.append((f"phi{k + 1}", (residues[k - 1]["C"], atoms["N"], atoms["CA"], atoms["C"])))
            if k + 1 < len(residues) and "N" in residues[k + 1]:
                torsions.append((f"psi{k + 1}", (atoms["N"], atoms["CA"], atoms["C"], residues[k + 1]["N"])))
    return bonds, angles, torsions


def length(x, bond):
    return numpy.linalg.norm(x[..., bond[0], :] - x[..., bond[1], :], axis=-1)


def bend(x, angle):
    u, v = x[..., angle[0], :] - x[..., angle[1], :], x[..., angle[2], :] - x[..., angle[1], :]
    c = (u * v).sum(-1) / numpy.linalg.norm(u, axis=-1) / numpy.linalg.norm(v, axis=-1)
    return numpy.degrees(numpy.arccos(numpy.clip(c, -1, 1)))


def turn(x, torsion):
    a, b, c, d = (x[..., i, :] for i in torsion)
    p, q, r = b - a, c - b, d - c
    m, n = numpy.cross(p, q), numpy.cross(q, r)
    return numpy.degrees(numpy.arctan2((numpy.cross(m, n) * q).sum(-1) / numpy.linalg.norm(q, axis=-1), (m * n).sum(-1)))


class Comparison:
    def __init__(self, chosen, cells):
        self.z = {}
        self.chosen = chosen  # for either side, a mask [n] per run
        self.cells = cells    # for either side, cell numbers [n] per run

    def note(self, family, name, ours, theirs, report):
        (a, ea), (b, eb) = ours, theirs
        if not ea + eb > 0:
            return
        z = (a - b) / math.sqrt(ea + eb)
        self.z.setdefault(family, []).append((z, name))
        if report:
            print(f"| {report} | {a:.3f} +- {math.sqrt(ea):.3f} | {b:.3f} +- {math.sqrt(eb):.3f} | {z:+.1f} |")

    def add(self, family, name, ours, theirs, report=None):
        """ours, theirs: one series per run. Means over OpenMM's cells."""
        labels, values = numpy.concatenate(self.cells[0]), numpy.concatenate(ours)
        count = numpy.bincount(labels, minlength=self.n_cells())
        means = numpy.bincount(labels, values, self.n_cells()) / numpy.maximum(count, 1)
        share = numpy.bincount(numpy.concatenate([c[count[c] >= 100] for c in self.cells[1]]), minlength=self.n_cells())
        share = share / share.sum()
        residual = [a - means[c] for a, c in zip(ours, self.cells[0])]
        g = numpy.mean([inefficiency(a) for a in residual])
        square = numpy.bincount(labels, numpy.concatenate(residual)**2, self.n_cells()) / numpy.maximum(count, 1)
        own = float((share**2 * square * g / numpy.maximum(count, 1)).sum())
        mean = float((share * means).sum())
        off, error = mean_and_error([(a - means[c])[count[c] >= 100] for a, c in zip(theirs, self.cells[1])], residual)
        self.note(family, name, (mean, own), (mean + off, error), report)

    def n_cells(self):
        return 1 + max(int(c.max()) for side in self.cells for c in side)

    def add_bin(self, family, name, ours, theirs):
        ours, theirs = ([a[mask] for a, mask in zip(runs, masks)] for runs, masks in zip((ours, theirs), self.chosen))
        self.note(family, name, mean_and_error(ours), mean_and_error(theirs, ours), None)

    def summary(self, family):
        z = self.z[family]
        worst = max(z, key=lambda item: abs(item[0]))
        print(f"| {family} | {len(z)} | {math.sqrt(sum(v * v for v, _ in z) / len(z)):.2f} | {worst[0]:+.1f} ({worst[1]}) |")


def simulate(arguments):
    """All runs: {"tbg": (frames, components, kinetic temperatures), "openmm": the same}; lists over runs."""
    temperature = FORCEFIELDS[arguments.forcefield][1]
    ours, theirs = ([], [], []), ([], [], [])
    with tempfile.TemporaryDirectory() as folder:
        starts = make_starts(arguments, folder, temperature)
        total, clock = 0.0, [0.0, 0.0]
        for k, start in enumerate(starts):
            begin = time.process_time()
            frames, parts, kinetic = run_openmm(arguments, start, k, arguments.openmm_seconds / len(starts))
            n, drop = len(frames), len(frames) // 10
            total += n * INTERVAL
            for side, value in zip(theirs, (frames[drop:], {name: a[drop:] for name, a in parts.items()}, kinetic[drop:])):
                side.append(value)
            clock[0] += time.process_time() - begin
            frames, parts, kinetic = run_tbg(arguments, start, k, n * INTERVAL, folder)
            for lane in range(LANES):
                ours[0].append(frames[lane])
                ours[1].append({name: a[lane] for name, a in parts.items()})
            ours[2].append(kinetic)
        clock[1] = sum(os.times()[2:4])
        tuples = measures(starts[0])
    return dict(tbg=ours, openmm=theirs, tuples=tuples, title=(
        f"{arguments.sequence}, {arguments.forcefield}, {temperature:g} K: {len(starts)} starts, OpenMM "
        f"({FORCEFIELDS[arguments.forcefield][3]}) {total:.0f} ps in {clock[0]:.0f} s, tbg {LANES * total:.0f} ps in "
        f"{clock[1]:.0f} s of one core (energies of frames included)"))


def choose_state(data):
    """Masks of the frames in the state of all phi that both sides have seen most, cells, and a sentence about the state."""
    phis = [t for name, t in data["tuples"][2] if name.startswith("phi")]
    labels = [[sum(((turn(x, t) > 0) & (turn(x, t) < 114.6)) << k for k, t in enumerate(phis)) + 0 * x[:, 0, 0]
               for x in data[side][0]] for side in ("tbg", "openmm")]
    share = [[numpy.mean(numpy.concatenate(side) == s) for s in range(1 << len(phis))] for side in labels]
    best = int(numpy.argmax(numpy.minimum(*share)))
    flips = [sum(int((numpy.diff(a) != 0).sum()) for a in side) for side in labels]
    told = f"histograms: phi {'inside' if best else 'outside'} 0 < phi < 2, {100 * share[0][best]:.1f} % of tbg's, " \
           f"{100 * share[1][best]:.1f} % of OpenMM's; {flips[0]} and {flips[1]} flips\n"
    cells = [[sum((turn(x, t) // 60 + 3).astype(int) % 6 * 6**k for k, (_, t) in enumerate(data["tuples"][2]))
              for x in data[side][0]] for side in ("tbg", "openmm")]
    return [[a == best for a in side] for side in labels], cells, told


def compare(data):
    (x1, e1, t1), (x2, e2, t2) = data["tbg"], data["openmm"]
    bonds, angles, torsions = data["tuples"]
    chosen, cells, told = choose_state(data)
    print(data["title"] + "\n" + told)
    c = Comparison(chosen, cells)
    print("| mean | tbg | OpenMM | difference / error |\n|---|---|---|---|")
    c.add("energies", "total", [sum(e.values()) for e in e1], [sum(e.values()) for e in e2], "potential energy, kJ/mol")
    for name in e2[0]:
        c.add("energies", name, [e[name] for e in e1], [e[name] for e in e2], f"{name}, kJ/mol")
    their = numpy.concatenate(t2)
    error = math.sqrt(numpy.mean([inefficiency(t) for t in t2]) / len(their)) * their.std()
    ours, our_error = numpy.mean(t1), error * math.sqrt(len(their) / sum(map(len, x1)))
    z = (ours - their.mean()) / math.hypot(error, our_error)
    print(f"| kinetic temperature, K | {ours:.2f} +- {our_error:.2f} | {their.mean():.2f} +- {error:.2f} | {z:+.1f} |")
    for family, tuples, measure in (("bond lengths", bonds, length), ("angles", angles, bend)):
        for t in tuples:
            name = "-".join(map(str, t))
            a, b = [measure(x, t) for x in x1], [measure(x, t) for x in x2]
            centre = numpy.mean([numpy.mean(v) for v in b])
            c.add(f"{family}, mean", name, a, b)
            c.add(f"{family}, variance", name, [(v - centre)**2 for v in a], [(v - centre)**2 for v in b])
    for name, t in torsions:
        a, b = [turn(x, t) for x in x1], [turn(x, t) for x in x2]
        for low in range(-180, 180, 30):
            c.add_bin(f"histogram of {name}", f"{low} to {low + 30}", [(v >= low) & (v < low + 30) for v in a],
                      [(v >= low) & (v < low + 30) for v in b])
    print("\n| quantities | number | rms of difference / error | largest |\n|---|---|---|---|")
    for family in c.z:
        c.summary(family)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sequence")
    parser.add_argument("forcefield", choices=FORCEFIELDS)
    parser.add_argument("--starts", type=int, default=6)
    parser.add_argument("--openmm-seconds", type=float, default=120)
    parser.add_argument("--tbg", default="build/tbg")
    parser.add_argument("--keep")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.keep and os.path.exists(arguments.keep):
        with open(arguments.keep, "rb") as f:
            data = pickle.load(f)
    else:
        data = simulate(arguments)
        if arguments.keep:
            with open(arguments.keep, "wb") as f:
                pickle.dump(data, f)
    compare(data)


main()
