"""Padded rows, on an emulated device."""

import numpy as np
import torch


def test_rows_that_are_padded_already_are_not_copied(emulated_cuda):
    tensor = torch.zeros(2, 3, 8)
    assert emulated_cuda.padded(tensor).data_ptr() == tensor.data_ptr()
    padded = emulated_cuda.padded(torch.ones(2, 3, 5))
    assert padded.shape == (2, 3, 8)
    assert padded.sum() == 30


def test_rows_come_back_without_their_padding(emulated_cuda, rng):
    array = rng.standard_normal((2, 3, 5)).astype(np.float32)
    rows = emulated_cuda.to_padded_rows(array)
    assert rows.shape == (2, 3, 8)
    returned = emulated_cuda.to_array(rows, 5)
    np.testing.assert_array_equal(returned, array, strict=True)
    assert returned.flags.c_contiguous
