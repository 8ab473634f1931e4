import numpy as np
import pytest
import torch

from skdejavid.video.object_graphs import UnknowableError, digest_of
from skdejavid.video.object_parts import describe
from skdejavid.video.tensor_parts import array_node, tensor_node


def digest(value):
    return digest_of(value, describe, "it")


X = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [0.0, 0.0, 4.0]])


@pytest.mark.parametrize(
    "same",
    [
        torch.nn.Parameter(X),
        X.clone().requires_grad_(),
        torch.nn.Buffer(X),
        X.t().contiguous().t(),
        torch.stack([X, -X], dim=2)[..., 0],
        (-X)._neg_view(),
    ],
    ids=["parameter", "gradient", "buffer", "transposed", "strided", "negated view"],
)
def test_what_a_tensor_is_used_for_does_not_matter(same):
    torch.testing.assert_close(same.detach(), X)
    assert digest(same) == digest(X)


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:.*quantize")  # when they are made
def test_numbers_dtype_and_shape_matter():
    kinds = [
        X,
        X + 1,
        X[:2],
        X.reshape(9),
        X.reshape(1, 3, 3),
        *(X.to(dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int32)),
        *(X.to(dtype) for dtype in (torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2)),
        X > 0,
        torch.zeros(0, 3),
        torch.zeros(3, 0),
        torch.tensor(1.0),
        torch.tensor(float("nan")),
        X.to_sparse(),
        X.to_sparse_csr(),
        X.to_sparse_csc(),
        X.to_sparse_bsr((3, 3)),
        torch.quantize_per_tensor(X, 0.1, 0, torch.qint8),
        torch.quantize_per_tensor(X, 0.2, 0, torch.qint8),
        torch.quantize_per_channel(
            X, torch.full((3,), 0.1), torch.zeros(3, dtype=int), 0, torch.qint8
        ),
    ]
    assert len({digest(tensor) for tensor in kinds}) == len(kinds)
    assert [digest(tensor) for tensor in kinds] == [digest(tensor.clone()) for tensor in kinds]


@pytest.mark.filterwarnings("ignore:Sparse")
def test_the_order_in_which_a_sparse_tensor_stores_its_numbers_does_not_matter():
    indices, numbers = torch.tensor([[0, 1], [1, 0]]), torch.tensor([2.0, 3.0])
    one = torch.sparse_coo_tensor(indices, numbers, (2, 2))
    other = torch.sparse_coo_tensor(indices.flip(1), numbers.flip(0), (2, 2))
    assert digest(one) == digest(other)
    assert digest(one) != digest(torch.sparse_coo_tensor(indices, numbers.flip(0), (2, 2)))


def test_attributes_of_tensors_count_except_for_marks():
    tensors = [X.clone() for _ in range(4)]
    tensors[1]._is_hf_initialized = True
    tensors[2].gain, tensors[3].gain = 1, 2
    digests = [digest(tensor) for tensor in tensors]
    assert digests[0] == digests[1]
    assert len({*digests}) == 3


class Named(torch.Tensor):
    pass


class Scaled(torch.Tensor):
    """A tensor that consists of another one and a number."""

    @staticmethod
    def __new__(cls, inner, scale):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner, scale):
        self.inner, self.scale = inner, scale

    def __tensor_flatten__(self):
        return ["inner"], {"scale": self.scale}

    @classmethod
    def __torch_dispatch__(cls, function, kinds, arguments=(), keywords=None):
        raise NotImplementedError


def test_classes_of_tensors_count_with_what_they_contain():
    named = X.as_subclass(Named)
    assert digest(named) != digest(X)
    assert digest(named) == digest(X.clone().as_subclass(Named))
    assert digest(Scaled(X, 1)) == digest(Scaled(X.clone(), 1))
    assert len({digest(Scaled(*pair)) for pair in [(X, 1), (X, 2), (X + 1, 1)]}) == 3


class Fake(torch.Tensor):
    @classmethod
    def __torch_dispatch__(cls, function, kinds, arguments=(), keywords=None):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(2, device="meta"), "is a tensor on the device 'meta', whose numbers cannot"),
        (torch.nn.LazyLinear(2).weight, r"is not initialized \(call the encoder once"),
        (X.as_subclass(Fake), "is a Fake, whose numbers cannot be read"),
    ],
    ids=["meta", "lazy", "without numbers"],
)
def test_tensors_without_readable_numbers_are_refused(tensor, message):
    with pytest.raises(UnknowableError, match=message):
        tensor_node(tensor)


def test_arrays_count_by_numbers_dtype_and_shape():
    x = X.numpy()
    gap = np.dtype({"names": ["a"], "formats": ["u1"], "offsets": [3], "itemsize": 8})
    kinds = [
        x,
        x + 1,
        x.astype(">f4"),
        x.astype("f8"),
        x.ravel(),
        x.astype(object),
        x.astype("datetime64[s]"),
        x.astype(str),
        np.ma.masked_array(x, x == 0),
        np.array([(1, 2.0)], dtype="i4,f8"),
        np.array([(1, 3.0)], dtype="i4,f8"),
        np.zeros(2, gap),
        np.float32(2),
        np.array(2, np.float32),
    ]
    assert len({digest(array) for array in kinds}) == len(kinds)
    assert digest(np.asfortranarray(x)) == digest(x)
    assert digest(np.ones(2, gap)) == digest(np.full(16, 1, np.uint8).view(gap))


def test_a_memory_map_is_an_array(tmp_path):
    np.save(tmp_path / "x.npy", X.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert digest(mapped) == digest(X.numpy())
    assert array_node(mapped).n_bytes == 36
