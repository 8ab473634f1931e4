import gc
import multiprocessing
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from sharing import (
    LENGTH,
    N_THREADS,
    SIDE,
    Net,
    as_found,
    attach,
    count_mixed_rows_of_trained_weights,
    count_wrong_rows_of_frozen_weights,
    extractor_of,
    leave,
    videos_of,
)

from skdejavid import TSEExtractor
from skdejavid.video import sessions
from skdejavid.video.contact_sheet import contact_sheet


@pytest.mark.slow
@pytest.mark.fault(124)
@pytest.mark.parametrize("prepare", [leave, attach])
def test_threads_processes_and_a_training_loop_share_a_module_and_get_the_rows_alone(prepare):
    n_wrong, n_rows = count_wrong_rows_of_frozen_weights(5, prepare)
    assert n_rows == 5 * (sum(3 + i for i in range(N_THREADS)) + 3 + 4)
    assert n_wrong == 0


@pytest.mark.slow
@pytest.mark.fault(124)
def test_an_extraction_uses_one_set_of_weights_while_another_thread_trains():
    n_mixed, n_rows, n_sets = count_mixed_rows_of_trained_weights(10)
    assert n_rows == 10 * sum(3 + i for i in range(N_THREADS))
    assert n_mixed == 0
    assert n_sets > 2  # it did train meanwhile


@pytest.mark.fault(124)
def test_rows_are_those_of_the_videos_although_hooks_store_them_in_the_original():
    """As the usual hook does, after the caller has run as many clips as a batch contains."""

    class Kept(Net):
        def __init__(self):
            super().__init__()
            self.outputs = []
            self.norm.register_forward_hook(lambda part, args, output: setattr(self, "f", output))
            self.norm.register_forward_hook(lambda part, args, output: self.outputs.append(output))

        def forward(self, clips):
            self.outputs.clear()
            self.norm(self.conv(clips))
            return torch.cat([self.f, *self.outputs], dim=1).mean(dim=(2, 3, 4))

    class Plain(Net):
        def forward(self, clips):
            return self.norm(self.conv(clips)).mean(dim=(2, 3, 4)).repeat(1, 2)

    module, video = Kept().eval(), videos_of(1)
    settings = {"head": None, "batch_size": 2}
    expected = extractor_of(Plain(), 1).set_params(**settings).transform(video)[0]
    with torch.no_grad():
        module(torch.rand(2, 3, LENGTH, SIDE, SIDE))
    before = module.f, list(module.outputs)
    rows = extractor_of(module, 1).set_params(**settings).transform(video)[0]
    assert len(rows) == 4  # all batches are full
    np.testing.assert_array_equal(rows, expected)
    assert module.f is before[0]
    assert all(a is b for a, b in zip(module.outputs, before[1], strict=True))


@pytest.mark.slow
@pytest.mark.fault(125)
def test_a_module_that_is_compiled_in_place_by_a_backend_of_the_user_fills_a_store(tmp_path):
    def negative(graph, inputs):
        return lambda *args: tuple(-output for output in graph(*args))

    module = Net()
    expected = -extractor_of(module, 0).transform(videos_of(0))[0]
    module.compile(backend=negative)
    for name in ("store", "other"):
        extractor = extractor_of(module, 0).set_params(store=tmp_path / name)
        np.testing.assert_allclose(extractor.transform(videos_of(0))[0], expected, rtol=1e-5)


@pytest.mark.fault(124)
def test_two_extractions_that_take_turns_do_not_meet():
    """With the same head, whose input and output both have computed before either goes on."""
    module, barrier, errors = Net().train(), threading.Barrier(2, timeout=60), []
    before, rows = as_found(module), {}

    def meet(*_):
        barrier.wait()

    def extract(value):
        video = np.full((8, SIDE, SIDE, 3), value, np.uint8)
        extractor = extractor_of(module, 0).set_params(head="fc", batch_size=1)
        return extractor.transform([video])[0]

    def work(value):
        try:
            rows[value] = extract(value)
        except BaseException as error:
            barrier.abort()
            errors.append(error)

    hook = module.register_forward_hook(meet)
    threads = [threading.Thread(target=work, args=(value,)) for value in (40, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hook.remove()
    assert errors == []
    assert as_found(module) == before
    for value, together in rows.items():
        np.testing.assert_array_equal(together, extract(value))


@pytest.mark.fault(124)
def test_a_function_that_uses_a_module_in_training_mode_is_refused_before_it_runs():
    net, n_calls = Net().train(), 0

    def encoder(clips):
        nonlocal n_calls
        n_calls += 1
        return net(clips)

    before = as_found(net)
    message = r"variable 'net' of 'encoder' is a module in training mode \(Net, .*eval\(\)"
    with pytest.raises(ValueError, match=message):
        extractor_of(encoder, 0).transform(videos_of(0))
    assert (n_calls, as_found(net)) == (0, before)
    net.eval()
    rows = extractor_of(encoder, 0).transform(videos_of(0))[0]
    np.testing.assert_array_equal(rows, extractor_of(net, 0).transform(videos_of(0))[0])


@pytest.mark.fault(132)
def test_a_module_that_caches_tensors_can_be_trained_after_an_extraction():
    cache = []

    def positions():
        if not cache:
            cache.append(torch.arange(3.0))
        return cache[0]

    class Cached(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 3)

        def forward(self, clips):
            return self.fc(clips.mean(dim=(2, 3, 4))) * positions()

    module = Cached()
    extractor_of(module, 0).transform(videos_of(0))
    assert len(cache) == 1
    module(torch.rand(2, 3, 4, 6, 6)).sum().backward()
    assert module.fc.weight.grad is not None


@pytest.mark.slow
@pytest.mark.fault(129)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_frozen_script_is_an_encoder():
    module = Net().eval()
    frozen = torch.jit.freeze(torch.jit.script(module))
    assert not hasattr(frozen, "training")
    rows = [extractor_of(encoder, 0).transform(videos_of(0))[0] for encoder in (frozen, module)]
    np.testing.assert_allclose(*rows, rtol=1e-5, atol=1e-6)


def rows_of(module):
    return extractor_of(module, 0).transform(videos_of(0))[0]


def fingerprint_of(module):
    return extractor_of(module, 0).store_fingerprint()


def sheet_of(module):
    extractor = extractor_of(module, 0).set_params(frame_size=224)
    return contact_sheet(extractor, videos_of(0)[0]).tobytes()


def put_result(compute, module, queue):
    queue.put(compute(module))


def result_of_child(compute, module, timeout=60):
    """Return what a process that is forked now computes, or None if it hangs."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=put_result, args=(compute, module, queue), daemon=True)
    child.start()
    end = time.monotonic() + timeout
    while queue.empty() and child.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    result = None if queue.empty() else queue.get()
    child.kill()
    child.join()
    return result


class Wide(torch.nn.Module):
    """A module whose operations are large enough for the threads of torch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = torch.nn.Conv3d(3, 32, 3, padding=1), torch.nn.Linear(32, 2**16)

    def forward(self, clips):
        return self.fc(self.conv(clips).relu().mean(dim=(2, 3, 4)))[:, :: 2**14]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.fault(133)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_extracts_after_its_parent_did(two_threads):
    module = Wide()
    rows = rows_of(module)
    after_fork = result_of_child(rows_of, module)
    assert after_fork is not None
    # One thread may add in another order than two.
    np.testing.assert_allclose(after_fork, rows, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows_of(module), rows)


@pytest.mark.slow
@pytest.mark.fault(133)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("compute", [fingerprint_of, sheet_of])
def test_a_forked_process_also_does_what_is_not_an_extraction(compute, two_threads):
    module = Net()
    # Its numbers are copied before they are hashed, by several threads.
    module.register_buffer("mirrored", torch.rand(16, 128, 128).permute(2, 0, 1))
    result = compute(module)
    assert result_of_child(compute, module) == result


@pytest.mark.fault(124)
def test_nothing_is_copied_if_nothing_is_encoded(tmp_path, monkeypatch):
    module, copies, private_copy = Net(), [], sessions.private_copy

    def remember(original, device):
        copied = private_copy(original, device)
        copies.append(weakref.ref(copied))
        return copied

    monkeypatch.setattr(sessions, "private_copy", remember)
    extractor = TSEExtractor(
        module, width=4, stride=2, clip_length=4, frame_size=None, store=tmp_path / "store"
    )
    first = extractor.transform(videos_of(0))
    assert len(copies) == 1
    gc.collect()
    assert copies[0]() is None
    second = extractor.transform(videos_of(0))
    extractor.extract(videos_of(0))
    assert len(copies) == 1
    np.testing.assert_array_equal(first.frames, second.frames)
