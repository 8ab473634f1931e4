import gc
import weakref

import numpy as np
import pytest
import torch

from skdejavid.compat.tensors import as_tensor, is_batch_of_old_vmap, without_torch

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("torch_warnings")]


def mapped(array, folder):
    np.save(folder / "x.npy", array)
    return np.load(folder / "x.npy", mmap_mode="r")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, np.int64, bool])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), ()])
def test_read_only_arrays_are_shared_without_a_warning(dtype, shape, tmp_path):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    array.flags.writeable = False
    for source in (array, mapped(array, tmp_path)):
        tensor = as_tensor(source)
        np.testing.assert_array_equal(tensor.numpy(), array, strict=True)
        assert not source.size or np.shares_memory(tensor.numpy(), source)
        assert not source.flags.writeable


def test_strides_are_kept():
    array = np.arange(24.0).reshape(4, 6)
    array.flags.writeable = False
    for view in (array.T, array[::2, 1:4]):
        np.testing.assert_array_equal(as_tensor(view).numpy(), view)
        assert np.shares_memory(as_tensor(view).numpy(), array)


def test_the_memory_lives_as_long_as_the_tensor():
    class Array(np.ndarray):
        """An array that can be referred to weakly."""

    array = np.arange(1000.0).view(Array)
    array.flags.writeable = False
    alive = weakref.ref(array)
    tensor = as_tensor(array)
    del array
    gc.collect()
    assert alive() is not None
    assert tensor.sum() == 999 * 500
    del tensor
    gc.collect()
    assert alive() is None


def test_writable_arrays_and_tensors_are_shared_and_lists_are_converted():
    array, tensor = np.zeros(3), torch.zeros(3)
    assert np.shares_memory(as_tensor(array).numpy(), array)
    assert as_tensor(tensor) is tensor
    assert as_tensor([1.0, 2.0]).tolist() == [1.0, 2.0]


def test_a_batch_of_gradients_is_recognized(monkeypatch):
    found = []

    class Recording(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            found.append(is_batch_of_old_vmap(gradient))
            return gradient

    x = torch.ones(2, requires_grad=True)
    torch.autograd.grad(Recording.apply(x), x, torch.eye(2), is_grads_batched=True)
    torch.autograd.grad(Recording.apply(x).sum(), x)
    assert found == [True, False]
    monkeypatch.setattr(torch._C, "_functorch", None)
    assert not is_batch_of_old_vmap(x)


def test_what_torch_has_only_noted_is_computed():
    real, numbers = torch.tensor([1.0, -2.0]), torch.tensor([1 + 2j, 3j])
    assert without_torch(torch._neg_view(real)).tolist() == [-1.0, 2.0]
    assert without_torch(numbers.conj()).tolist() == [1 - 2j, -3j]
    assert without_torch(numbers.conj().imag).tolist() == [-2.0, -3.0]
