#!/usr/bin/env python3
"""Short tables of what scripts/gpu-experiment measured. Standard library only.

  gpu_tables.py DIR    reads bench/, sparse/, ablate/, predictions/, ncu/ and validate.json of DIR, as far as they are there
"""
import csv
import json
import pathlib
import sys


def load(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def cases(result):
    """The cases that were measured, by label."""
    return {case["label"]: case for case in (result or {}).get("cases", []) if case.get("samples")}


def microseconds(seconds):
    return f"{seconds * 1e6:.2f}"


def table(title, header, rows, names=2):
    """`names` columns of words, the others of numbers."""
    if not rows:
        return
    widths = [max(len(str(row[i])) for row in [header] + rows) for i in range(len(header))]
    print(f"\n{title}")
    for row in [header] + rows:
        cells = [str(cell).rjust(width) if i >= names else str(cell).ljust(width) for i, (cell, width) in enumerate(zip(row, widths))]
        print("  " + "  ".join(cells).rstrip())


def predicted_times(directory, name):
    """Seconds by label, of `predict --json`."""
    prediction = load(directory / "predictions" / f"{name}.json") or {}
    return {case["label"]: case["time_s"] for case in prediction.get("cases", [])}


def by_shape(path):
    return int(path.name.split("x")[0]), path.name


def best_read_Bps(directory):
    """What the calibrated device reads from memory: the last point of its curve."""
    curve = (load(directory / "gpu.json") or {}).get("read_bandwidth")
    scale = {"B/s": 1, "GB/s": 1e9, "TB/s": 1e12}
    return curve["points"][-1]["value"] * scale.get(curve["unit"], 0) if curve else 0


def bench_rows(directory):
    rows = []
    best = best_read_Bps(directory)
    for path in sorted(directory.glob("bench/*.json"), key=lambda p: (not p.name[0].isdigit(), p.name)):
        result = load(path)
        measured = cases(result)
        name = path.stem.removesuffix("-chained") if path.stem.endswith("-chained") else None
        predicted = predicted_times(directory, name) if name else {}
        vendor = measured.get("cublaslt")
        for label, case in measured.items():
            error = f"{100 * (predicted[label] / case['median_s'] - 1):+.0f} %" if label in predicted else ""
            rows.append([path.stem, label, microseconds(case["median_s"]), microseconds(case["p10_s"]), microseconds(case["p90_s"]),
                         f"{100 * case['fraction_of_read_bandwidth']:.0f} %",
                         f"{100 * case['bytes'] / case['median_s'] / best:.0f} %" if best else "",
                         f"{vendor['median_s'] / case['median_s']:.2f}" if vendor else "",
                         "same" if case["same_bits_as_row_fused"] else "other", error])
        for case in (result or {}).get("cases", []):
            if case.get("error"):
                rows.append([path.stem, case["label"], "not run: " + case["error"][:60], "", "", "", "", "", "", ""])
    return rows


def sparse_rows(directory):
    rows = []
    for path in sorted(directory.glob("sparse/*.json"), key=by_shape):
        measured = cases(load(path))
        dense, skip = measured.get("row_fused"), measured.get("row_fused+skip")
        if not dense or not skip:
            continue
        predicted = predicted_times(directory, path.stem)
        ratio = dense["median_s"] / skip["median_s"]
        guess = predicted.get("row_fused", 0) / predicted["row_fused+skip"] if predicted.get("row_fused+skip") else 0
        rows.append([path.stem, microseconds(dense["median_s"]), microseconds(skip["median_s"]), f"{ratio:.2f}",
                     f"{guess:.2f}" if guess else "", f"{dense['bytes'] / skip['bytes']:.2f}"])
    return rows


def ablation_rows(directory):
    rows = []
    for path in sorted(directory.glob("ablate/*.json"), key=by_shape):
        for label, case in cases(load(path)).items():
            rows.append([path.stem, label, microseconds(case["median_s"]), f"{100 * case['fraction_of_read_bandwidth']:.0f} %"])
    return rows


def ncu_bytes(path):
    """DRAM bytes read by each launch: [(kernel, bytes)]. ncu writes remarks of its own before the table."""
    lines = [line for line in path.read_text().splitlines() if line.startswith('"')]
    units = {"byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}
    found = []
    for row in csv.DictReader(lines):
        if row.get("Metric Name") == "dram__bytes_read.sum":
            value = float(row["Metric Value"].replace(",", ""))
            found.append((row["Kernel Name"].split("(")[0], value * units.get(row["Metric Unit"], 1)))
    return found


def ncu_rows(directory):
    rows = []
    for path in sorted(directory.glob("ncu/*.csv"), key=by_shape):
        case = next(iter((load(path.with_suffix(".json")) or {}).get("cases", [])), None)
        launches = ncu_bytes(path)
        if not case or not launches:
            continue
        kernels = list(dict.fromkeys(name for name, _ in launches))
        per_call = sum(sorted(b for n, b in launches if n == name)[len([1 for n, _ in launches if n == name]) // 2] for name in kernels)
        rows.append([path.stem, f"{per_call / 1e6:.2f}", f"{case['bytes'] / 1e6:.2f}", f"{100 * (per_call / case['bytes'] - 1):+.1f} %"])
    return rows


def main():
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_dir():
        sys.exit("usage: gpu_tables.py DIR")
    directory = pathlib.Path(sys.argv[1])
    profile = load(directory / "gpu.json")
    if profile:
        print(f"{profile['meta']['title']}, calibrated {profile['meta']['date']}")
    table("bench: µs per call", ["case", "schedule", "median", "p10", "p90", "of read", "of memory", "x cublaslt", "bits", "predicted"],
          bench_rows(directory))
    table("sparse: row_fused without and with skip, µs", ["case", "dense", "skip", "ratio", "predicted", "bytes"],
          sparse_rows(directory), names=1)
    table("DRAM bytes read per call, MB", ["case", "counted by ncu", "by the plan", "off by"], ncu_rows(directory), names=1)
    table("ablations: µs per call", ["case", "schedule", "median", "of read"], ablation_rows(directory))
    validation = load(directory / "validate.json")
    if validation:
        summary = validation["summary"]
        table("validate", ["points", "right", "abstains", "mean error", "in 90 %"],
              [[summary["points"], f"{100 * summary['decision_accuracy']:.0f} %", f"{100 * summary['abstain_rate']:.0f} %",
                f"{100 * summary['mape']:.0f} %", f"{100 * summary['coverage_90']:.0f} %"]], names=0)


if __name__ == "__main__":
    main()
