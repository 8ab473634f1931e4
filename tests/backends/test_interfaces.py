"""Classes have the methods of their interfaces, also those that mypy does not see together."""

import inspect

import pytest

from skdejavid import _core
from skdejavid.backends.cpu import CpuTensorProblem
from skdejavid.backends.cuda_problem import CudaArrayProblem, CudaTensorProblem
from skdejavid.backends.interfaces import AlignmentProblem, Loss
from skdejavid.training.loss import SoftMinCrossEntropy


def assert_implements(cls, interface):
    """Check that a class has all members of an interface, with the same parameters.

    It may have more parameters, which are optional.
    """
    members = {name: member for name, member in vars(interface).items() if name[0] != "_"}
    members |= inspect.get_annotations(interface)
    assert members
    for name, member in members.items():
        assert hasattr(cls, name), name
        if inspect.isfunction(member) and inspect.isfunction(getattr(cls, name)):
            expected = parameters_of(member)
            actual = parameters_of(getattr(cls, name))
            assert [(p.name, p.kind) for p in actual[: len(expected)]] == [
                (p.name, p.kind) for p in expected
            ], name
            assert all(p.default is not p.empty for p in actual[len(expected) :]), name


def parameters_of(function):
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize(
    "cls",
    [
        _core.ProblemFloat32,
        _core.ProblemFloat64,
        CpuTensorProblem,
        CudaArrayProblem,
        CudaTensorProblem,
    ],
)
def test_all_problems_have_the_methods_of_the_interface(cls):
    assert_implements(cls, AlignmentProblem)


def test_the_loss_of_the_classifier_has_the_methods_of_the_interface():
    assert_implements(SoftMinCrossEntropy, Loss)
