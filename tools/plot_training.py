#!/usr/bin/env python3
"""Compare training runs: tools/plot_training.py RUN [RUN...] [-o training.png] [--by iteration|seconds|molecules]

RUN is a folder with log.jsonl, or such a file. Draws training loss, validation loss (EMA weights), the validation loss
by time of the last validation, and gradient norms; prints a table. Needs matplotlib. An aid for experiments only."""
import argparse
import json
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def read(path):
    path = os.path.join(path, "log.jsonl") if os.path.isdir(path) else path
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("-o", "--output", default="training.png")
    parser.add_argument("--by", choices=["iteration", "seconds", "molecules"], default="iteration")
    options = parser.parse_args()
    figure, ((loss, validation), (by_time, norm)) = plt.subplots(2, 2, figsize=(12, 8))
    print(f"{'run':30s} {'iteration':>9s} {'molecules':>10s} {'hours':>6s} {'loss':>8s} {'validation':>10s} {'best':>8s} {'mol/s':>7s}")
    for run in options.runs:
        log = read(run)
        name = os.path.basename(os.path.dirname(run) if run.endswith(".jsonl") else run.rstrip("/"))
        if not log:
            print(f"{name:30s} (empty)")
            continue
        points = [(line[options.by], line["loss"]) for line in log if line["loss"] is not None]
        checked = [line for line in log if line.get("validation_loss") is not None]
        line, = loss.plot(*zip(*points), lw=0.8, label=name)
        colour = line.get_color()
        if checked:
            x = [c[options.by] for c in checked]
            validation.plot(x, [c["validation_loss"] for c in checked], color=colour, label=name)
            validation.plot(x, [c["validation_loss_raw"] for c in checked], color=colour, lw=0.5, ls=":")
            last = checked[-1]
            by_time.stairs([v if v is not None else float("nan") for v in last["validation_by_time"]],
                           range(len(last["time_edges"])), color=colour, label=name)
            by_time.set_xticks(range(len(last["time_edges"])), [f"{t:.3f}" for t in last["time_edges"]])
        norms = [(l[options.by], l["gradient_norm"]) for l in log if l["gradient_norm"] is not None]
        norm.plot(*zip(*norms), lw=0.8, color=colour, label=name)
        end = log[-1]
        show = lambda v, w: f"{v:{w}.4f}" if v is not None else " " * w
        print(f"{name:30s} {end['iteration']:9d} {end['molecules']:10d} {end['seconds'] / 3600:6.2f} {show(end['loss'], 8)} "
              f"{show(checked[-1]['validation_loss'] if checked else None, 10)} "
              f"{show(min((c['validation_loss'] for c in checked), default=None), 8)} "
              f"{end['molecules'] / max(end['seconds'], 1e-9):7.0f}")
    for axis, title in ((loss, "training loss"), (validation, "validation loss (dotted: raw weights)"), (norm, "gradient norm")):
        axis.set(title=title, xlabel=options.by, yscale="log")
        axis.legend(fontsize=8)
    by_time.set(title="validation loss by time, last validation", xlabel="t (edges of the bins)")
    by_time.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(options.output, dpi=120)
    print(options.output)


if __name__ == "__main__":
    main()
