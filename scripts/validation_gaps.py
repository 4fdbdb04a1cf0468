#!/usr/bin/env python3
"""What verdicts on fused against unfused could be at best, and what the simulator's are. Standard library only.

  validation_gaps.py RESULT.json RESULT.json [...]

Each RESULT.json is what `signsplit validate --json` wrote of one run of the same suite, also with --replay. Two predictors of the difference of the
fastest fused and the fastest unfused schedule: what the other runs measured, since nobody can know more of a problem before measuring it, and the
simulator. Of both, by the width that a predicted difference must exceed: the share of problems abstained on, and of the verdicts on what
measuring decides the share that is right.
"""
import json
import math
import sys

WIDTHS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)


def fastest(points, fused, time):
    return min((p for p in points if p["fused"] == fused), key=lambda p: p[time], default=None)


def gaps_of(result):
    """By problem: measured difference in % (more than 0: fused is faster), half width of its 90 % interval, predicted difference."""
    groups = {}
    for point in result["points"]:
        groups.setdefault(point["group"], []).append(point)
    gaps = {}
    for name, points in groups.items():
        fused, unfused = fastest(points, True, "measured_s"), fastest(points, False, "measured_s")
        if fused is None or unfused is None or not (fused.get("paired_s", 0) > 0 and unfused.get("paired_s", 0) > 0):
            continue
        measured = 100 * math.log(unfused["paired_s"] / fused["paired_s"])
        width = 100 * math.hypot(unfused["paired_ci90_s"], fused["paired_ci90_s"]) / min(unfused["paired_s"], fused["paired_s"])
        predicted = 100 * math.log(fastest(points, False, "predicted_s")["predicted_s"] / fastest(points, True, "predicted_s")["predicted_s"])
        gaps[name] = (measured, width, predicted)
    return gaps


def score(verdicts, width):
    """Share abstained, share right and number of what both decide."""
    taken = [(gap, measured) for gap, measured, interval in verdicts if abs(gap) > width and abs(measured) > interval]
    abstained = sum(abs(gap) <= width for gap, _, _ in verdicts) / len(verdicts)
    right = sum((gap > 0) == (measured > 0) for gap, measured in taken)
    return f"{100 * abstained:4.0f} %, {100 * right / max(len(taken), 1):5.1f} % of {len(taken):3d}"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    runs = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            runs.append(gaps_of(json.load(file)))
    known = [name for name in runs[0] if all(name in run for run in runs)]
    others, model = [], []
    print("measured difference in % of every run (* measuring does not decide) | predicted")
    for name in known:
        measured = [run[name][0] for run in runs]
        for i, run in enumerate(runs):
            rest = [value for j, value in enumerate(measured) if j != i]
            others.append((sum(rest) / len(rest), run[name][0], run[name][1]))
            model.append((run[name][2], run[name][0], run[name][1]))
        cells = " ".join(f"{run[name][0]:+7.1f}{' ' if abs(run[name][0]) > run[name][1] else '*'}" for run in runs)
        print(f"{name:60} {cells} | " + " ".join(f"{run[name][2]:+7.1f}" for run in runs))
    print("\nwidth    the other runs' measurements    the simulator        (abstained, right of what measuring decides)")
    for width in WIDTHS:
        print(f"{width:3.1f} %    {score(others, width):28}    {score(model, width)}")


if __name__ == "__main__":
    main()
