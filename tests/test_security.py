"""What docs/reliability.md says of security: nothing here runs data as code."""

import ast

import pytest

import gin_runs

SOURCES = [
    path
    for folder in ("gbt_t5x", "tasks", "scripts", "embedded")
    for path in sorted((gin_runs.ROOT / folder).rglob("*.py"))
]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "torch.load"}


def found_in(source):
    """Modules and calls that run what they read, and arguments that allow it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [getattr(node, "module", "") or ""]
            yield from MODULES & {name.split(".")[0] for name in names}
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS:
                yield name
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", True)
                if keyword.arg in ("allow_pickle", "shell") and value is not False:
                    yield keyword.arg


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(gin_runs.ROOT)))
def test_no_source_runs_data_as_code(path):
    assert not list(found_in(path.read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "x = eval(text)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_what_runs_data_as_code_is_found(source):
    assert list(found_in(source))
