"""
A first classification
======================

This example fits a classifier to real sequences of differing length, measures it, and
shows what it has learned. Start here if you know scikit-learn.

In the data set JapaneseVowels, nine men say two vowels one after the other. A
*sequence* is one utterance: an array with one row per *frame* (a moment of the sound)
and 12 columns, the *features*. The class is the speaker. Utterances have 7 to 29
frames; nothing has to be padded or cut.

To run it, ``pip install "skdejavid[plot]"``.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import AlignmentDisplay, DejaVidClassifier
from skdejavid.datasets import load_japanese_vowels

X_train, y_train, X_test, y_test = load_japanese_vowels()

lengths = [len(x) for x in X_train]
print(f"{len(X_train)} sequences to learn from, {len(X_test)} to test with")
print(f"a sequence: {X_train[0].shape}, dtype {X_train[0].dtype}")
print(f"lengths of the training sequences: {min(lengths)} to {max(lengths)} frames")

# %%
# Fit and score
# -------------
#
# ``X`` is a plain list of arrays. No step that scales the features is needed, because
# the classifier learns in units in which all features have the same scale.

clf = DejaVidClassifier(random_state=0).fit(X_train, y_train)

print(f"test accuracy: {clf.score(X_test, y_test):.3f}")

# %%
# An accuracy means little without something to compare it with. The simplest
# alternative averages each sequence over time and classifies the 12 averages:


def averages(X):
    return np.stack([x.mean(axis=0) for x in X])


baseline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
baseline.fit(averages(X_train), y_train)

print(f"test accuracy of the averages: {baseline.score(averages(X_test), y_test):.3f}")

# %%
# The averages are already good here: a voice can be recognized by its mean spectrum. In
# `Your own encoder <plot_04_own_encoder.html>`_ the classes differ *only* in the order
# of events, and averages fail.
#
# Which speakers are confused?
# ----------------------------
#
# scikit-learn's displays take the fitted classifier and the list of sequences. A row of
# the matrix is the speaker who spoke, a column the predicted one.

display = ConfusionMatrixDisplay.from_estimator(clf, X_test, y_test, cmap="Blues", colorbar=False)
display.ax_.set(xlabel="predicted speaker", ylabel="speaker", title="test sequences")
plt.show()

# %%
# Has training converged?
# -----------------------
#
# ``history_`` has one number per epoch (pass over the training data). The loss is
# measured on the training sequences. It says whether training has converged; it says
# nothing about new sequences, for which you need a test part or cross-validation.

epochs = np.arange(1, clf.n_iter_ + 1)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.semilogy(epochs, clf.history_["loss"])
left.set(xlabel="epoch", ylabel="mean cross-entropy (nats)", title="training loss")
right.plot(epochs, clf.history_["accuracy"])
right.set(xlabel="epoch", ylabel="fraction correct", title="training accuracy")
plt.show()

# %%
# How a prediction is made
# ------------------------
#
# The classifier has one short *centroid* per class, with a *weight* for each of its
# time steps and features. To compare a sequence with a centroid it matches frames with
# time steps, in order, such that the weighted differences are smallest. The picture
# shows one test sequence and the centroid of its predicted class: dark cells are frames
# and time steps that differ, and the red path avoids them.
#
# The names ``x0_lag_1`` and so on are changes of a feature over time, which the
# classifier compares as well as the values (see ``differences``).

x = X_test[0]
print(f"speaker {y_test[0]}, predicted {clf.predict([x])[0]}")
figure = plt.figure(figsize=(11, 9), layout="constrained")
AlignmentDisplay.from_estimator(clf, x, figure=figure)
plt.show()

# %%
# The predicted class is that of the smallest distance. ``transform`` returns the
# distances to all classes:

for label, distance in zip(clf.classes_, clf.transform([x])[0], strict=True):
    print(f"distance to speaker {label}: {distance:6.2f}")

# %%
# Save the model
# --------------
#
# ``clf.save("model.safetensors")`` writes a file without code, which is safe to share,
# and ``DejaVidClassifier.load("model.safetensors")`` reads it. `Serve a model
# without torch <plot_08_deploy_without_torch.html>`_ continues from there.
