"""
Grid search over a pipeline, with standard errors
=================================================

``DejaVidClassifier`` and the transformers of skdejavid are scikit-learn estimators, so
pipelines, grid searches and cross-validation work as for any table. This example
searches the number of principal components and the length of the centroids together,
and asks whether the best of the grid is better than the others by more than chance.

To run it, ``pip install "skdejavid[plot]" pandas``.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import DejaVidClassifier, Framewise
from skdejavid.datasets import load_japanese_vowels

X_train, y_train, X_test, y_test = load_japanese_vowels()

# %%
# Transformers of tables on sequences
# -----------------------------------
#
# ``StandardScaler`` and ``PCA`` take tables. ``Framewise`` applies them to all frames
# of all training sequences as one table, and afterwards to the frames of each sequence.
# What is fitted in a fold comes from the training part of this fold only.

model = Pipeline(
    [
        ("scale", Framewise(StandardScaler())),
        ("pca", Framewise(PCA(random_state=0))),
        ("classify", DejaVidClassifier(random_state=0)),
    ]
)
for step, estimator in model[:2].fit(X_train).named_steps.items():
    print(step, estimator.transformer_)
share = model["pca"].transformer_.explained_variance_ratio_.cumsum()
print("share of the variance in 2, 4, 8 components:", share[[1, 3, 7]].round(2))

# %%
# The search
# ----------
#
# Parameters of the inner transformer have two double underscores in their names:
# ``pca__transformer__n_components`` is ``n_components`` of the ``PCA`` in the
# ``Framewise`` of the step ``pca``. Twelve combinations in five folds are 60 fits.

search = GridSearchCV(
    model,
    {
        "pca__transformer__n_components": [4, 8, 10, 12],
        "classify__n_timesteps": [2, 4, 8],
    },
    cv=StratifiedKFold(5, shuffle=True, random_state=0),
)
search.fit(X_train, y_train)

# %%
# All combinations, from the best to the worst. The standard error is that of the mean
# over the folds. The folds share training data, so the true uncertainty is somewhat
# larger.

folds = np.stack([search.cv_results_[f"split{i}_test_score"] for i in range(search.n_splits_)])
results = pd.DataFrame(
    {
        "components": search.cv_results_["param_pca__transformer__n_components"],
        "time steps": search.cv_results_["param_classify__n_timesteps"],
        "accuracy": folds.mean(axis=0),
        "standard error": folds.std(axis=0, ddof=1) / np.sqrt(len(folds)),
    }
)
print(results.sort_values("accuracy", ascending=False).round(3).to_string(index=False))

# %%
# The number of components matters much, the number of time steps less than the error
# bars.

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for shift, (n_timesteps, rows) in enumerate(results.groupby("time steps")):
    ax.errorbar(
        rows["components"] + 0.15 * (shift - 1),
        rows["accuracy"],
        rows["standard error"],
        marker="o",
        capsize=3,
        label=f"{n_timesteps} time steps",
    )
ax.set(
    xlabel="principal components of a frame",
    ylabel="accuracy in cross-validation",
    title="mean and standard error of 5 folds",
    xticks=[4, 8, 10, 12],
)
ax.legend()
plt.show()

# %%
# A simpler model that is as good
# -------------------------------
#
# The one-standard-error rule takes the smallest model whose accuracy is within one
# standard error of the best. Fewer components and time steps mean smaller files and
# faster predictions.

best = results.loc[results["accuracy"].idxmax()]
is_as_good = results["accuracy"] >= best["accuracy"] - best["standard error"]
results["size"] = results["components"] * results["time steps"]
simplest = results["size"][is_as_good].idxmin()
chosen = search.cv_results_["params"][simplest]
simple_model = clone(model).set_params(**chosen).fit(X_train, y_train)

print("best:    ", search.best_params_)
print("simplest:", chosen)

# %%
# The test part was not used so far. It shows what the search has gained:

default = DejaVidClassifier(random_state=0).fit(X_train, y_train)
for name, fitted in {
    "no search, no PCA": default,
    "best of the grid": search,
    "simplest within an error": simple_model,
}.items():
    accuracy = fitted.score(X_test, y_test)
    error = np.sqrt(accuracy * (1 - accuracy) / len(y_test))
    print(f"{name:26}{accuracy:.3f} ± {error:.3f}")

# %%
# Nothing, on these data: the default without any search is as good. What the search has
# shown is that a few time steps suffice, and how fast the accuracy falls with fewer than
# eight components. The simplest model, with 2 time steps of 10 components, has a fifth
# of the numbers of the default, 8 time steps of 12 features, and its test accuracy is
# within the errors of the others.
#
# Reducing features pays where there are many of them. For embeddings with 1280 numbers,
# ``Framewise(PCA(128))`` fits several times as fast and costs some accuracy; see
# `Preprocess <../howto/preprocess.html>`_.
