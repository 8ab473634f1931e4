"""
A rare class: balanced weights, and moving the threshold
========================================================

Faults, diseases and goals are rare. A classifier that never predicts the rare class has
a high accuracy and no use. This example shows what ``class_weight="balanced"`` changes,
what it costs, how to move the threshold of a decision, and a simpler method that is
better on these data.

To run it, ``pip install "skdejavid[plot]"``.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdejavid import DejaVidClassifier
from skdejavid.datasets import make_event_sequences

# sphinx_gallery_thumbnail_number = 1

# %%
# A thousand to twenty
# --------------------
#
# A sequence is noise in 6 features, with one short event at a random time. Which
# features the event raises tells the class. There are 1000 sequences of class 0 and 20
# of class 1. One test part has equally many of both, the other one is as unequal as the
# training part.

X, y = make_event_sequences(1020, weights=[1000, 20], random_state=0)
X_equal, y_equal = make_event_sequences(1000, random_state=1)
X_rare, y_rare = make_event_sequences(5100, weights=[1000, 20], random_state=2)
print("training:", np.bincount(y), " equal test part:", np.bincount(y_equal))
print("test part with a rare class:", np.bincount(y_rare))

# %%
# Four models
# -----------
#
# The baseline does without an alignment: a logistic regression, with balanced weights,
# of mean, standard deviation, maximum and minimum of each feature.


def statistics(X):
    functions = (np.mean, np.std, np.max, np.min)
    return np.stack([np.concatenate([f(x, axis=0) for f in functions]) for x in X])


models = {
    "default": DejaVidClassifier(random_state=0),
    "weights only": DejaVidClassifier(class_weight={0: 1, 1: 50}, random_state=0),
    "balanced": DejaVidClassifier(class_weight="balanced", random_state=0),
    "statistics": make_pipeline(
        FunctionTransformer(statistics),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=5000),
    ),
}

print(f"{'':13}{'equal test part':^28}{'rare class'}")
print(f"{'':13}{'balanced acc.':14}{'recall of 1':14}{'accuracy':>10}")
for name, model in models.items():
    model.fit(X, y)
    predicted = model.predict(X_equal)
    print(
        f"{name:13}{balanced_accuracy_score(y_equal, predicted):^14.2f}"
        f"{recall_score(y_equal, predicted):^14.2f}"
        f"{accuracy_score(y_rare, model.predict(X_rare)):>10.3f}"
    )

# %%
# Read the table column by column.
#
# * By default the rare class is hardly ever found. Weights alone change little: once
#   all training sequences are classified correctly, a larger weight has nothing to
#   correct.
# * ``"balanced"`` also demands a larger margin for the rare class, and finds most of
#   it.
# * The price is in the last column. Where the rare class stays rare, more false alarms
#   cost accuracy, and a model that never predicts class 1 would have 0.980.
# * The simple statistics win here. The event alone determines the class, whenever it
#   happens, so an extreme value says all, and 20 sequences are few to learn a course
#   over time from. Where the order matters, such statistics are blind: see
#   `Your own encoder <plot_04_own_encoder.html>`_.

# %%
# The threshold
# -------------
#
# ``decision_function`` returns the logarithm of the odds for class 1; ``predict``
# returns class 1 where it is above 0. Another threshold trades false alarms for missed
# events. On the left is the decision function for the equal test part, on the right
# what each threshold would do.

figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
for (left, right), name in zip(axes, ["default", "balanced"], strict=True):
    scores = models[name].decision_function(X_equal)
    bins = np.linspace(scores.min(), scores.max(), 41)
    for label in (0, 1):
        left.hist(scores[y_equal == label], bins=bins, alpha=0.6, label=f"class {label}")
    left.set(xlabel="log odds of class 1", ylabel="test sequences", title=name)
    left.legend()
    is_above = scores[:, None] > bins
    found = is_above[y_equal == 1].mean(axis=0)
    left_alone = 1 - is_above[y_equal == 0].mean(axis=0)
    right.plot(bins, found, label="class 1 found")
    right.plot(bins, left_alone, label="class 0 without alarm")
    right.plot(bins, (found + left_alone) / 2, color="black", label="balanced accuracy")
    right.set(xlabel="threshold", ylabel="fraction", title=name, ylim=(0, 1.02))
    right.legend(loc="lower left")
    for ax in (left, right):
        ax.axvline(0, color="gray", linestyle="--")
plt.show()

# %%
# The default model separates the classes nearly as well as the balanced one, but not at
# 0. Its best threshold is near -33, a probability of about :math:`10^{-14}`: its
# probabilities say nothing about new sequences. The best threshold of the balanced
# model is close to 0, where it should be.
#
# A threshold must not be chosen on the test part. ``TunedThresholdClassifierCV`` of
# scikit-learn chooses it by cross-validation in the training part:

for name, class_weight in {"default": None, "balanced": "balanced"}.items():
    tuned = TunedThresholdClassifierCV(
        DejaVidClassifier(class_weight=class_weight, random_state=0),
        response_method="decision_function",
        cv=5,
        random_state=0,
    ).fit(X, y)
    score = balanced_accuracy_score(y_equal, tuned.predict(X_equal))
    print(f"{name:9} threshold {tuned.best_threshold_:6.2f}, balanced accuracy {score:.2f}")

# %%
# With 20 sequences of the rare class, each fold has 4 of them, so the chosen threshold
# depends on chance.
#
# All of these are single runs. `The method page <../explanation/method.html>`_ has the
# means and standard errors of five seeds, for more sets. There, 50 instead of 20
# sequences of the rare class gain about 3 points of balanced accuracy.
