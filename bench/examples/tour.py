# %% [markdown]
# # A tour of the estimator
# Run the cells one after the other in a notebook, or all at once: `python -m bench.examples.tour`.

# %% Sparse rows, two labels
import tempfile

import numpy as np
import scipy.sparse

import shmps
from shmps.callbacks import History

random = np.random.default_rng(0)
planted = random.normal(size=1_000)


def rows(count):
    X = scipy.sparse.random(count, 1_000, density=0.02, format="csr", random_state=random)
    return X, np.where(X @ planted + 0.5 * random.normal(size=count) > 0, "yes", "no")


X, y = rows(20_000)
X_test, y_test = rows(5_000)

# %% Train to the optimum: the servers sum full gradients
best = shmps.LogisticRegression(workers=2, l2=1e-4).fit(X, y)
print(f"{best.n_iter_} rounds, accuracy {best.score(X_test, y_test):.3f}")

# %% Train by minibatches: tick by tick (sync), without waiting (async), and without locks (hogwild)
modes = {}
for mode in ("sync", "async", "hogwild"):
    model = shmps.LogisticRegression(workers=2, mode=mode, l2=1e-4, learning_rate=0.3, epochs=20).fit(X, y)
    modes[mode] = model.score(X_test, y_test)
    print(f"{mode:8} accuracy {modes[mode]:.3f}, delay p99 {model.staleness_.p99}")

# %% Evaluate on other rows, and stop when the loss no longer improves
history = History()
model = shmps.LogisticRegression(
    solver="minibatch", n_iter_no_change=3, tol=1e-3, learning_rate=0.3, epochs=200, callbacks=[history]
)
model.fit(X, y, eval_set=(X_test, y_test))
losses = [row["log_loss"] for row in history.rows]
print(f"stopped after {len(losses)} epochs, log-loss {losses[0]:.3f} to {losses[-1]:.3f}")

# %% Weight a class, and train on rows that arrive in parts
weighted = shmps.LogisticRegression(class_weight={"yes": 10.0}, l2=1e-4).fit(X, y)
for name, model in (("plain", best), ("weighted", weighted)):
    print(f"{name}: predicts yes for {np.mean(model.predict(X_test) == 'yes'):.2f} of the rows")
later = shmps.LogisticRegression(learning_rate=0.3)
for begin in range(0, len(y), 5_000):
    later.partial_fit(X[begin : begin + 5_000], y[begin : begin + 5_000], classes=["no", "yes"])
print(f"in four parts: accuracy {later.score(X_test, y_test):.3f}")

# %% Save the model, and load it again
with tempfile.TemporaryDirectory() as folder:
    shmps.save(best.model(), f"{folder}/model.npz")
    again = shmps.load(f"{folder}/model.npz")
print(f"the same predictions: {(again.predict(X_test) == best.predict(X_test)).all()}")
