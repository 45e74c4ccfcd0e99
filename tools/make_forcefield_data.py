#!/usr/bin/env python3
"""Make data/*.xml from the AMBER parameter files that OpenMM ships (Debian package python3-simtk).

Keeps the residues of proteins and the parameters that their atom types can use; drops nucleic acids, ions and water.
Numbers are copied as text, terms keep their order. Needed only to renew the data, never to build or test.

usage: python3 tools/make_forcefield_data.py OPENMM_DATA_FOLDER [OUTPUT_FOLDER]
       (the folder that holds amber99sbildn.xml, such as .../openmm/app/data)
"""
import os
import sys
import xml.etree.ElementTree as ET

AMINO = ("ALA ARG ASH ASN ASP CYM CYS CYX GLH GLN GLU GLY HID HIE HIP ILE LEU LYN LYS MET PHE PRO SER THR TRP TYR "
         "VAL").split()
RESIDUES = set(AMINO) | {p + r for p in "NC" for r in AMINO} | {"ACE", "NME", "NHE"}

FILES = [
    ("amber14/protein.ff14SB.xml", "protein.ff14SB.xml",
     "AMBER ff14SB: Maier, Martinez, Kasavajhala, Wickstrom, Hauser, Simmerling (2015), J. Chem. Theory Comput. 11, "
     "3696-3713."),
    ("amber99sbildn.xml", "amber99sbildn.xml",
     "AMBER ff99SB-ILDN: Hornak et al. (2006), Proteins 65, 712-725, with the side-chain torsions of Lindorff-Larsen "
     "et al. (2010), Proteins 78, 1950-1958."),
    ("amber99_obc.xml", "amber99_obc.xml",
     "Generalised Born radii and screening factors for the atom types of amber99sbildn.xml: Onufriev, Bashford, Case "
     "(2004), Proteins 55, 383-394, model II."),
]


def terms(element):
    """The types or classes that a parameter element names; '' is the wildcard."""
    return [(k, v) for k, v in element.attrib.items() if k.rstrip("1234") in ("type", "class")]


def trim(root, types, classes):
    for force in root:
        if force.tag in ("AtomTypes", "Residues", "Info"):
            continue
        for element in list(force):
            for key, value in terms(element):
                if value and value not in (types if key.startswith("type") else classes):
                    force.remove(element)
                    break


def main():
    source, output = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "data"
    os.makedirs(output, exist_ok=True)
    types, classes = set(), set()
    for path, name, reference in FILES:
        root = ET.parse(os.path.join(source, path)).getroot()
        residues = root.find("Residues")
        if residues is not None:
            for residue in list(residues):
                if residue.get("name") not in RESIDUES:
                    residues.remove(residue)
            types = {atom.get("type") for residue in residues for atom in residue.findall("Atom")}
            atom_types = root.find("AtomTypes")
            for element in list(atom_types):
                if element.get("name") not in types:
                    atom_types.remove(element)
            classes = {element.get("class") for element in atom_types}
        for info in root.findall("Info"):
            root.remove(info)
        trim(root, types, classes)
        ET.indent(root, " ")
        figures = sum(1 for element in root.iter() for key in element.attrib if key not in ("name", "class", "element"))
        with open(os.path.join(output, name), "w") as out:
            out.write("<!-- " + reference + "\n     Taken from " + os.path.basename(path) +
                      " of OpenMM 7.7 (made there from AmberTools), trimmed to proteins by\n"
                      "     tools/make_forcefield_data.py. nm, kJ/mol, rad, g/mol, elementary charges. -->\n")
            out.write(ET.tostring(root, encoding="unicode") + "\n")
        print(f"{name}: {figures} figures, {os.path.getsize(os.path.join(output, name)) // 1024} KiB")


main()
