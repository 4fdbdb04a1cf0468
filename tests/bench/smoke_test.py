"""signsplit_bench runs, and scripts/compare-benchmarks reads what it writes: one benchmark of each kind, hardly measured."""

import json
import pathlib
import subprocess
import sys
import tempfile

COMPARE = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "compare-benchmarks"
KINDS = ["tile/dot/scalar/bf16/batch:1", "tile/add/scalar/int8/batch:4", "pack_layer/bf16/768/3072", "quantize_layer/group:128", "exact_sum_add",
         "ffn/768x3072/bf16/warm/certified/real_time", "apart/dot/real_time", "call/row_fused/768x3072/bf16/warm/threads:2/real_time",
         "sim/predict/512x2048/h200/unfused", "sim/simulate/512x2048/unfused", "sim/plan_for/4096x16384/epyc-zen5-vm"]


def run(suite, file):
    command = [suite, "--benchmark_filter=^(" + "|".join(KINDS) + ")$", "--benchmark_min_time=0.0001",
               f"--benchmark_out={file}", "--benchmark_out_format=json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runs = [one for one in json.loads(file.read_text())["benchmarks"] if one["run_type"] == "iteration"]
    broken = [one["name"] for one in runs if one.get("error_occurred") or not one["real_time"] > 0]
    counted = {one["run_name"] for one in runs if one.get("bytes_per_second", 0) > 0}
    assert not broken, broken
    assert sorted({one["run_name"] for one in runs}) == sorted(KINDS), runs
    assert counted == {name for name in KINDS if not name.startswith(("sim/", "exact_sum"))}, counted


def main():
    with tempfile.TemporaryDirectory() as folder:
        before, after = pathlib.Path(folder) / "before.json", pathlib.Path(folder) / "after.json"
        run(sys.argv[1], before)
        run(sys.argv[1], after)
        same = subprocess.run([sys.executable, COMPARE, before, before], capture_output=True, text=True)
        assert same.returncode == 0 and same.stdout.count("  same") == len(KINDS), same
        other = subprocess.run([sys.executable, COMPARE, before, after], capture_output=True, text=True)
        assert other.returncode in (0, 1) and all(name in other.stdout for name in KINDS), other  # times are not looked at


if __name__ == "__main__":
    main()
