"""scripts/compare-benchmarks: what it calls slower, faster and the same, and what it refuses."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "compare-benchmarks"


def result(times, unit="us"):
    """{name: [real_time, ...]} as Google Benchmark writes it, with an aggregate that must not be counted."""
    entries = [
        {"name": name, "run_name": name, "run_type": "iteration", "real_time": t, "time_unit": unit}
        for name, values in times.items() for t in values
    ]
    entries += [{"name": f"{name}_median", "run_name": name, "run_type": "aggregate", "real_time": 1e9, "time_unit": unit} for name in times]
    return json.dumps({"context": {}, "benchmarks": entries})


class CompareBenchmarks(unittest.TestCase):
    def run_script(self, before, after, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            files = [pathlib.Path(folder) / name for name in ("before.json", "after.json")]
            for file, text in zip(files, (before, after)):
                file.write_text(text)
            return subprocess.run([sys.executable, SCRIPT, *map(str, files), *arguments], capture_output=True, text=True)

    def verdicts(self, before, after, *arguments):
        done = self.run_script(result(before), result(after), *arguments)
        self.assertEqual(done.stderr, "")
        return done.returncode, {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if line.split()[-1] in ("same", "slower", "faster")}

    def test_verdicts(self):
        before = {"a": [10, 11, 12], "b": [10, 11, 12], "c": [10, 11, 12], "d": [10, 11, 40]}
        after = {"a": [20, 21, 22], "b": [5, 6, 7], "c": [10.1, 11.1, 12.1], "d": [20, 21, 22]}
        self.assertEqual(self.verdicts(before, after), (1, {"a": "slower", "b": "faster", "c": "same", "d": "same"}))

    def test_small_and_few(self):
        self.assertEqual(self.verdicts({"a": [100, 100, 100]}, {"a": [102, 102, 102]})[1], {"a": "same"})
        self.assertEqual(self.verdicts({"a": [100, 100, 100]}, {"a": [102, 102, 102]}, "--threshold", "0.01")[1], {"a": "slower"})
        self.assertEqual(self.verdicts({"a": [100, 100]}, {"a": [200, 200]})[1], {"a": "same"})

    def test_units_and_medians(self):
        done = self.run_script(result({"a": [1, 2, 9]}, "ms"), result({"a": [1000, 2000, 9000]}, "us"))
        self.assertEqual(done.returncode, 0)
        self.assertIn("1.000  same", done.stdout)

    def test_refusals(self):
        good = result({"a": [1, 2, 3]})
        for bad, message in (("{}", "must be the JSON"), ("nonsense", "must be the JSON"), (result({}), "holds no benchmark"),
                             (result({"b": [1]}), "no benchmark in common")):
            done = self.run_script(good, bad)
            self.assertEqual((done.returncode, message in done.stderr), (2, True), done.stderr)


if __name__ == "__main__":
    unittest.main()
