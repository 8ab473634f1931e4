"""Threads, processes and a training loop that use one module at once; also run as a script.

``python tests/video/sharing.py 200`` runs 200 rounds of each variant, and says how many rows were
wrong.
"""

import multiprocessing
import sys
import threading
import time

import numpy as np
import torch

from skdejavid import TSEExtractor

N_THREADS = 8
SIDE, LENGTH = 12, 4


class Net(torch.nn.Module):
    """A small video model with all that depends on the mode, and a classifier as its head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv3d(3, 4, 3)
        # Training updates the statistics in place, but with this momentum never their values.
        self.norm = torch.nn.BatchNorm3d(4, momentum=0.0)
        self.drop = torch.nn.Dropout(0.5)
        self.fc = torch.nn.Linear(4, 3)
        self.other = torch.nn.Linear(4, 2)

    def forward(self, clips):
        pooled = self.norm(self.conv(clips)).mean(dim=(2, 3, 4))
        return torch.cat([self.fc(self.drop(pooled)), self.other(pooled)], dim=1)


def attach(module):
    """Let hooks store values with which the module computes, in an attribute and in a variable."""
    inner, stored, module.kept = module.forward, {}, None

    def forward(clips):
        outputs = inner(clips)
        both = module.kept + stored["x"]
        return outputs + both.mean(dim=(1, 2, 3, 4))[:, None]

    module.norm.register_forward_hook(lambda part, args, output: setattr(module, "kept", output))
    module.conv.register_forward_hook(lambda part, args, output: stored.update(x=output))
    module.forward = forward


def leave(module):
    """Attach nothing."""


class Counter(torch.nn.Module):
    """A module all of whose parameters are equal, so that each feature tells the weights."""

    def __init__(self, n_layers=6):
        super().__init__()
        self.steps = torch.nn.ParameterList(torch.zeros(3) for _ in range(n_layers))
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, clips):
        ones = self.drop(torch.ones(len(clips), 3))
        return torch.cat([ones * step for step in self.steps], dim=1)


def videos_of(thread):
    rng = np.random.default_rng(thread)
    return [rng.integers(0, 256, (6 + thread, SIDE, SIDE, 3), dtype=np.uint8)]


def extractor_of(module, thread):
    """Return an extractor of its own: other heads, batches and devices."""
    return TSEExtractor(
        module,
        width=LENGTH,
        stride=1,
        clip_length=LENGTH,
        frame_size=None,
        head=(None, "fc", "other")[thread % 3],
        batch_size=2 + thread % 2,
        device=(None, "cpu")[thread // 4 % 2],
        n_jobs=1,
    )


def as_found(module):
    """Return what must not change."""
    return {
        "modes": [part.training for part in module.modules()],
        "attributes": [sorted(vars(part)) for part in module.modules()],
        "hooks": [len(p._forward_hooks) + len(p._forward_pre_hooks) for p in module.modules()],
        "tensors": [(k, id(t), t.data_ptr(), t.device, t.requires_grad)
                    for k, t in (*module.named_parameters(), *module.named_buffers())],
        "statistics": [t.tolist() for t in module.buffers() if t.is_floating_point()],
    }  # fmt: skip


def train(module, rate, loss_of, stop):
    """Train in steps until `stop` is set, at least once."""
    optimizer = torch.optim.SGD(module.parameters(), lr=rate)
    while True:
        optimizer.zero_grad()
        loss_of(module).backward()
        optimizer.step()
        if stop.wait(0.0005):  # reading of data
            return


def loss_of_outputs(module):
    return module(torch.rand(4, 3, LENGTH, SIDE, SIDE)).square().sum()


def loss_of_parameters(module):
    """Return a loss whose gradient is 1 everywhere."""
    return sum(parameter.sum() for parameter in module.parameters())


def while_trained(module, rate, loss_of, works):
    """Run functions in threads while another thread trains; raise their first error."""
    errors, stop = [], threading.Event()

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    trainer = threading.Thread(target=train, args=(module, rate, loss_of, stop))
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in (trainer, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    trainer.join()
    if errors:
        raise errors[0]


def extract_in_process(module, prepare, thread, n_rounds, results):
    prepare(module)
    for _ in range(n_rounds):
        results.put(extractor_of(module, thread).transform(videos_of(thread))[0])


def count_wrong_rows_of_frozen_weights(n_rounds, prepare=leave, n_processes=2):
    """Return how many rows differ from those alone, of how many, with a loop that has rate 0."""
    module = Net().train()
    context = multiprocessing.get_context("spawn")
    results = [context.Queue() for _ in range(n_processes)]
    processes = [
        context.Process(target=extract_in_process, args=(module, prepare, i, n_rounds, queue))
        for i, queue in enumerate(results)
    ]
    for process in processes:
        process.start()
    prepare(module)  # functions inside of functions cannot be sent to a process
    before = as_found(module)  # after torch has moved it to memory that processes share
    alone = [extractor_of(module, i).transform(videos_of(i))[0] for i in range(N_THREADS)]
    counts = [[0, 0] for _ in range(N_THREADS)]

    def work(thread):
        for _ in range(n_rounds):
            rows = extractor_of(module, thread).transform(videos_of(thread))[0]
            counts[thread][0] += int((rows != alone[thread]).any(axis=1).sum())
            counts[thread][1] += len(rows)

    works = [lambda thread=i: work(thread) for i in range(N_THREADS)]
    while_trained(module, 0.0, loss_of_outputs, works)
    for i, queue in enumerate(results):
        for _ in range(n_rounds):
            rows = queue.get(timeout=300)
            counts[i][0] += int((rows != alone[i]).any(axis=1).sum())
            counts[i][1] += len(rows)
    for process in processes:
        process.join(timeout=60)
    assert as_found(module) == before
    return tuple(np.sum(counts, axis=0).tolist())


def count_mixed_rows_of_trained_weights(n_rounds):
    """Return how many rows are not of one set of weights, of how many, and how many sets."""
    module = Counter().train()
    counts, sets = [[0, 0] for _ in range(N_THREADS)], set()

    def work(thread):
        extractor = extractor_of(module, 0).set_params(batch_size=1)
        for _ in range(n_rounds):
            rows = extractor.transform(videos_of(thread))[0]
            counts[thread][0] += int((rows != rows[0, 0]).any(axis=1).sum())
            counts[thread][1] += len(rows)
            sets.add(float(rows[0, 0]))

    before = as_found(module)
    works = [lambda thread=i: work(thread) for i in range(N_THREADS)]
    while_trained(module, 1.0, loss_of_parameters, works)
    assert as_found(module) == before
    return (*np.sum(counts, axis=0).tolist(), len(sets))


if __name__ == "__main__":
    n_rounds = int(sys.argv[1])
    torch.set_num_threads(1)
    for prepare in (leave, attach):
        start = time.perf_counter()
        n_wrong, n_rows = count_wrong_rows_of_frozen_weights(n_rounds, prepare)
        print(f"frozen, {prepare.__name__}: {n_wrong} wrong rows of {n_rows}; module as found")
        print(f"{time.perf_counter() - start:.0f} s")
    start = time.perf_counter()
    n_mixed, n_rows, n_sets = count_mixed_rows_of_trained_weights(n_rounds)
    print(f"trained: {n_mixed} mixed rows of {n_rows}, from {n_sets} sets of weights; as found")
    print(f"{time.perf_counter() - start:.0f} s")
