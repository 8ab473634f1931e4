"""
Train the alignment inside of a network
=======================================

``DejaVidClassifier`` learns centroids and weights of given features. With
``TimeWeightedDTW``, a torch module, the gradient of the distances also reaches the
sequences, so that layers before it can be trained together with the centroids. This
example trains a small network and compares it with three baselines on real data.

To run it, ``pip install "skdejavid[nn,plot]"``.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import DejaVidClassifier, Framewise, dtw_distances
from skdejavid.datasets import load_japanese_vowels
from skdejavid.nn import TimeWeightedDTW

torch.manual_seed(0)
torch.set_num_threads(1)  # so that the numbers are the same each time

# sphinx_gallery_thumbnail_number = 2

# %%
# Data
# ----
#
# Utterances of nine speakers, 7 to 29 frames of 12 features. The features are scaled,
# as networks need it. A tenth of the training sequences is held out, to see whether the
# network overfits.

X_train, y_train, X_test, y_test = load_japanese_vowels()
scale = Framewise(StandardScaler()).fit(X_train)
train, test = ([torch.from_numpy(x) for x in scale.transform(X)] for X in (X_train, X_test))
classes, targets = np.unique(y_train, return_inverse=True)
targets = torch.from_numpy(targets)
held_out = torch.arange(0, len(train), 10)
learned = torch.tensor([i for i in range(len(train)) if i % 10])

# %%
# A network
# ---------
#
# Each frame passes through one layer, which maps 12 features to 16. The module
# compares the resulting sequences, a list of tensors of differing length, with nine
# centroids of 8 time steps. Negative distances are logits for the cross-entropy;
# dividing them by the number of time steps keeps their size moderate.


class Matcher(torch.nn.Module):
    def __init__(self, n_features=12, n_hidden=16, n_classes=9, n_timesteps=8):
        super().__init__()
        self.layer = torch.nn.Linear(n_features, n_hidden)
        self.distances = TimeWeightedDTW(0.5 * torch.randn(n_classes, n_timesteps, n_hidden))

    def forward(self, sequences):
        hidden = [torch.tanh(self.layer(x)) for x in sequences]
        return -self.distances(hidden) / self.distances.centroids.shape[1]


network = Matcher()
print(f"{sum(p.numel() for p in network.parameters())} parameters")

# %%
# Train it
# --------
#
# This is torch's usual loop.


def loss_of(indices):
    logits = network([train[i] for i in indices])
    return torch.nn.functional.cross_entropy(logits, targets[indices])


optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
history = []
for epoch in range(40):
    losses = []
    for batch in learned[torch.randperm(len(learned))].split(30):
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        history.append((np.mean(losses), loss_of(held_out).item()))
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1:2}: loss {history[-1][0]:.3f}, held out {history[-1][1]:.3f}")

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.semilogy(np.arange(1, 41), history, label=["training part", "held-out part"])
ax.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="learning curve")
ax.legend()
plt.show()

# %%
# The loss of the held-out part (27 sequences) tells when training no longer helps.
#
# Compare
# -------
#
# The baselines are a logistic regression of the average over time, the label of the
# nearest training sequence under DTW, and ``DejaVidClassifier`` with its default
# parameters, which learns without the layer.


def averages(X):
    return np.stack([x.mean(axis=0) for x in X])


linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
linear.fit(averages(X_train), y_train)
to_each = np.hstack([dtw_distances(test, x[None]) for x in train])
clf = DejaVidClassifier(random_state=0).fit(X_train, y_train)
with torch.no_grad():
    predicted = classes[network(test).argmax(dim=1)]

accuracies = {
    "average + logistic": linear.score(averages(X_test), y_test),
    "1-NN DTW": np.mean(y_train[to_each.argmin(axis=1)] == y_test),
    "DejaVidClassifier": clf.score(X_test, y_test),
    "network": np.mean(predicted == y_test),
}
errors = [100 * np.sqrt(p * (1 - p) / len(y_test)) for p in accuracies.values()]

for (name, accuracy), error in zip(accuracies.items(), errors, strict=True):
    print(f"{name:20} {100 * accuracy:.1f} ± {error:.1f} %")

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.barh(list(accuracies), [100 * (1 - p) for p in accuracies.values()], xerr=errors, capsize=4)
ax.invert_yaxis()
ax.set(xlabel="wrong predictions (%)", title="370 test sequences, with standard errors")
plt.show()

# %%
# The network is no better than ``DejaVidClassifier``, which learns without the layer
# (and from all training sequences); the standard errors overlap. The 12 features are
# already good. A layer before the alignment can pay where features are raw, and where
# there are enough sequences to learn it from.
#
# ``TimeWeightedDTW.from_estimator(clf)`` starts from a fitted classifier instead of
# random centroids. `Train inside a network <../howto/networks.html>`_ lists what works
# with which part of torch.
