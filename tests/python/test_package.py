"""The package as such: what it names, how it is typed and documented, that the example runs."""

import ast
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import signsplit
from signsplit import _native

PACKAGE = pathlib.Path(signsplit.__file__).parent
PROJECT = pathlib.Path(__file__).resolve().parents[2]


def test_version_is_the_projects():
    declared = re.search(r"project\(signsplit VERSION ([0-9.]+)", (PROJECT / "CMakeLists.txt").read_text())
    assert signsplit.__version__ == declared.group(1)


def test_the_installed_package_is_typed():
    assert (PACKAGE / "py.typed").exists() and (PACKAGE / "_native.pyi").exists()


def public(names):
    return {name for name in names if not name.startswith("_")}


def test_the_stub_names_what_the_module_has():
    stub = ast.parse((PACKAGE / "_native.pyi").read_text())
    declared = {node.name: node for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert public(declared) == public(vars(_native))
    for name, node in declared.items():
        if isinstance(node, ast.ClassDef):
            members = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
            assert members == public(vars(getattr(_native, name))), name


@pytest.mark.parametrize("name", signsplit.__all__)
def test_public_names_are_documented_and_typed(name):
    thing = getattr(signsplit, name)
    if not inspect.isclass(thing):
        assert thing.__doc__ or getattr(_native, name, None) is thing
        return
    assert thing.__doc__
    for member_name, member in vars(thing).items():
        if member_name.startswith("_") or not isinstance(member, (staticmethod, property)) and not inspect.isfunction(member):
            continue
        function = member.fget if isinstance(member, property) else getattr(thing, member_name)
        assert "return" in function.__annotations__, f"{name}.{member_name}"


def test_the_example_runs(tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "error.png"
    example = PROJECT / "examples" / "06_python_check_mlp.py"
    ran = subprocess.run([sys.executable, str(example), str(plot)], capture_output=True, text=True, check=True)
    verdicts = dict(line.split(": ", 1) for line in ran.stdout.splitlines() if ": " in line)
    assert verdicts["signsplit"].startswith("passed") and verdicts["numpy"].startswith("passed")
    assert verdicts["numpy, hidden units cut to bf16"].startswith("FAILED")
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
