"""dvc.yaml names all that each stage depends on: the Python files that it imports, directly or
not, and the parameters that it reads. Both are found in the source, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from mmsim.params import Params

PROJECT = Path(__file__).parent.parent
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
PACKAGES = ("mmsim", "stages")
# As the head of dvc.yaml says: they cannot change a result.
NO_DEPENDENCY = {"params", "catalogue", "paths", "errors", "files", "progress", "device"}
SECTIONS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Params.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
SECTION_OF_TYPE = {annotation.__name__: name for name, annotation in SECTIONS.items()}

every_stage = pytest.mark.parametrize("stage", STAGES)


def script(stage: str) -> Path:
    return Path("stages") / f"{stage}.py"


def tree_of(file: Path) -> ast.Module:
    return ast.parse((PROJECT / file).read_text(encoding="utf-8"))


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node`, less those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from run_time_nodes(child)


def imported_files(file: Path) -> set[Path]:
    """The project's files that a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in run_time_nodes(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: import by absolute names"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    candidates = {
        Path(*name.split(".")).with_suffix(".py")
        for name in names
        if name.partition(".")[0] in PACKAGES
    }
    return {candidate for candidate in candidates if (PROJECT / candidate).is_file()}


def closure(start: Path) -> set[Path]:
    found, waiting = {start}, [start]
    while waiting:
        new = imported_files(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def expected_files(stage: str) -> set[str]:
    return {
        file.as_posix()
        for file in closure(script(stage))
        if not (file.parent == Path("mmsim") and file.stem in NO_DEPENDENCY)
    }


def leaves(keys: Iterable[str]) -> set[str]:
    """Parameters, a section replaced by all that it holds."""
    found = set()
    for key in keys:
        section = SECTIONS.get(key)
        found |= {f"{key}.{name}" for name in section.model_fields} if section else {key}
    return found


def attribute_of(node: ast.AST, name: str) -> str | None:
    """``b.c`` where `node` is ``name.b.c``, else None."""
    if isinstance(node, ast.Attribute):
        text = ast.unparse(node)
        return text.removeprefix(f"{name}.") if text.startswith(f"{name}.") else None
    return None


def parameters_read(stage: str) -> set[str]:
    """Parameters that the script reads, and the functions it hands a whole section to."""
    found = read_of_params(tree_of(script(stage)), "params")
    for file in closure(script(stage)):
        for function in ast.walk(tree_of(file)):
            if isinstance(function, ast.FunctionDef):
                found |= read_of_sections(function)
    return {key for key in found if not key.startswith("runtime.")}


def read_of_params(tree: ast.AST, name: str) -> set[str]:
    """Parameters read from `name`, which holds all of them."""
    found = set()
    # A section may have a short name of its own: model = params.model.
    aliases = {
        node.targets[0].id: section
        for node in run_time_nodes(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and (section := attribute_of(node.value, name)) in SECTIONS
    }
    for node in run_time_nodes(tree):
        reads = [attribute_of(node, name)]
        for alias, section in aliases.items():
            field = attribute_of(node, alias)
            reads.append(field and f"{section}.{field}")
        for read in reads:
            if read is None or read in SECTIONS:
                continue  # a section by itself: what is read of it stands elsewhere
            section, _, field = read.partition(".")
            found |= leaves([section if field == "model_dump" else read])
    return found


def read_of_sections(function: ast.FunctionDef) -> set[str]:
    """Parameters read from arguments that are typed as sections, such as DataParams."""
    found = set()
    for argument in function.args.args + function.args.kwonlyargs:
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        if kind == Params.__name__:
            found |= read_of_params(function, argument.arg)
        section = SECTION_OF_TYPE.get(kind)
        if section is None:
            continue
        for node in ast.walk(function):
            field = attribute_of(node, argument.arg)
            if field is not None:
                found.add(f"{section}.{field}")
    return found


def block(name: str, lines: Iterable[str]) -> str:
    return "\n".join([f"    {name}:", *(f"      - {line}" for line in lines)])


@every_stage
def test_each_stage_runs_the_script_of_its_name(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"


@every_stage
def test_deps_are_exactly_the_files_that_the_stage_imports(stage: str) -> None:
    listed = STAGES[stage]["deps"]
    files = [name for name in listed if name.endswith(".py")]
    expected = sorted(expected_files(stage))
    data = [name for name in listed if not name.endswith(".py")]
    assert files == expected, (
        f"the deps of {stage} in dvc.yaml differ from what it imports; paste:\n"
        + block("deps", [*data, *expected])
    )


@every_stage
def test_params_are_exactly_those_that_the_stage_reads(stage: str) -> None:
    listed = STAGES[stage].get("params", [])
    read = parameters_read(stage)
    assert leaves(listed) == read, (
        f"the params of {stage} in dvc.yaml differ from what it reads; paste "
        f"(a whole section by its name):\n" + block("params", sorted(read))
    )


def test_no_stage_depends_on_how_the_work_is_done() -> None:
    assert not [
        key
        for stage in STAGES.values()
        for key in stage.get("params", [])
        if key.partition(".")[0] == "runtime"
    ]


def test_imports_inside_functions_and_through_other_modules_count() -> None:
    assert "mmsim/data/tables.py" in expected_files("prepare")
    assert "mmsim/data/sample/images.py" in expected_files("download")


@pytest.mark.parametrize("stage", ["download", "prepare", "pairs", "features_image"])
def test_a_change_to_a_head_leaves_what_comes_before_training_alone(stage: str) -> None:
    assert not [name for name in expected_files(stage) if name.startswith("mmsim/models/")]
