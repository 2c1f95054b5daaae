"""Every public objective keeps to the contract; new ones are found by themselves and need a case."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kilter.core import ModelObjective
from kilter.core.glossary import AXES, INPUTS
from tests.conformance.case import (
    TESTS,
    Case,
    ModelCase,
    all_cases,
    all_model_cases,
    case_files,
    is_float,
    public_objectives,
    read_cases,
    shapes,
)
from tests.conformance.checks import CHECKS, MODEL_CHECKS, compiles

CASES = all_cases()


def unless_skipped(case: Case, check: str) -> None:
    if check in case.skip:
        pytest.skip(case.skip[check])


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("check", CHECKS)
def test_conforms(check: str, case: Case) -> None:
    unless_skipped(case, check)
    CHECKS[check](case)


@pytest.mark.parametrize("case", all_model_cases(), ids=str)
@pytest.mark.parametrize("check", MODEL_CHECKS)
def test_one_that_is_given_the_model_conforms(check: str, case: ModelCase) -> None:
    MODEL_CHECKS[check](case)


@pytest.mark.compile
@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiles_as_one_graph(case: Case) -> None:
    unless_skipped(case, "compile")
    torch.compiler.reset()
    compiles(case.pure())


@pytest.fixture(scope="session")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Losses and gradients of all cases, from two processes with half a batch each."""
    from safetensors.torch import load_file

    folder: Path = tmp_path_factory.mktemp("processes")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo")}
    if sys.platform != "linux":
        del env["GLOO_SOCKET_IFNAME"]
    command = [sys.executable, "-m", "tests.conformance.two_processes"]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(folder)], cwd=TESTS.parent, env=env, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in running]
    assert not any(process.returncode for process in running), "\n".join(errors)
    return load_file(folder / "found.safetensors")


@pytest.mark.dist
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_are_one(case: Case, halves: dict[str, Tensor]) -> None:
    from tests.conformance.two_processes import Scaled, loss_and_gradient

    unless_skipped(case, "processes")
    torch.manual_seed(0)
    expected = loss_and_gradient(Scaled(case), [0, 1, 2, 3])
    assert any(value.any() for name, value in expected.items() if name != "loss")
    assert_close({name.split("/")[1]: v for name, v in halves.items() if name.split("/")[0] == str(case)}, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_device_gives_the_same(case: Case, device: str) -> None:
    """Value as on the CPU; on CUDA also without waiting for the device."""
    objective = case.build()
    pure = case.pure(objective)
    single = pure.map(lambda _, v: v.float() if is_float(v) else v)
    expected = pure.gradient(single)
    objective.to(device)
    there = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in single.items()}
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        found = pure.gradient(there)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert_close(found, expected, check_device=False)


@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_the_cases_of_every_file_can_be_had(path: Path) -> None:
    assert read_cases(path)


def test_every_objective_has_a_case() -> None:
    for path in case_files():
        read_cases(path)  # else those of a file that cannot be read would be missed
    covered = {type(case.build()) for case in CASES}
    missing = [name for name, thing in public_objectives().items() if thing not in covered]
    assert not missing, "write a `Case` in `cases()` of the objective's own test file, see tests/conformance/case.py"
    covered = {type(case.build()) for case in all_model_cases()}
    missing = [name for name, thing in public_objectives(ModelObjective).items() if thing not in covered]
    assert not missing, "write a `ModelCase` in `model_cases()` of its own test file, see tests/conformance/case.py"


def test_every_objective_is_exported() -> None:
    import importlib

    for name in {**public_objectives(), **public_objectives(ModelObjective)}:
        family, thing = name.split(".")
        assert thing in importlib.import_module(f"kilter.{family}").__all__, f"export {thing} from kilter.{family}"


def test_cases_are_told_apart_and_skip_known_checks() -> None:
    names = [str(case) for case in [*CASES, *all_model_cases()]]
    assert len(set(names)) == len(names)
    for case in CASES:
        assert set(case.skip) <= {*CHECKS, "compile", "processes"}
        assert all(case.skip.values())


@pytest.mark.parametrize("name", public_objectives())
def test_arguments_are_in_the_glossary(name: str) -> None:
    objective = public_objectives()[name]
    assert set(objective.inputs) <= set(INPUTS), "add the name, its shape and its meaning to kilter.core.glossary"
    for argument, axes in shapes(objective.forward).items():
        assert {axis.strip("*#") for axis in axes} <= set(AXES), f"{argument}: add the axis to kilter.core.glossary"
        # some names come in two shapes
        shape = r"\(([a-z, ]+)\)"
        written = [known.replace(",", " ").split() for known in re.findall(shape, INPUTS.get(argument, ""))]
        assert not axes or axes in written, f"{argument} is {written} in the glossary"
