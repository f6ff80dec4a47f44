"""Plain numpy twins of what the package computes: slow, dense, obvious."""

import numpy as np


def loss_and_gradient(X, y, w, intercept=False):
    """Mean logistic loss and its gradient; X dense (rows, features), y of -1 and +1."""
    if intercept:
        X = np.hstack([X, np.ones((len(X), 1))])
    z = y * (X @ w)
    return np.mean(np.logaddexp(0, -z)), X.T @ (-y / (1 + np.exp(z))) / len(y)


class SGD:
    def __init__(self, rate, l2, n, schedule=lambda t: 1.0):
        self.rate, self.l2, self.schedule = rate, l2, schedule

    def update(self, w, gradient, tick):
        rate = self.rate * self.schedule(tick)
        return w * (1.0 - rate * self.l2) - rate * gradient


class AdaGrad:
    def __init__(self, rate, l2, n, initial=1e-4):
        self.rate, self.l2, self.initial, self.squares = rate, l2, initial, np.zeros(n)

    def update(self, w, gradient, tick):
        self.squares = self.squares + gradient * gradient
        rate = self.rate / np.sqrt(self.initial + self.squares)
        return (w - rate * gradient) / (1.0 + rate * self.l2)


class FTRL:
    def __init__(self, alpha, l1, l2, n, beta=1.0):
        self.inverse, self.beta, self.l1, self.l2 = 1.0 / alpha, beta, l1, l2
        self.z, self.n = np.zeros(n), np.zeros(n)

    def update(self, w, gradient, tick):
        sigma = (np.sqrt(self.n + gradient * gradient) - np.sqrt(self.n)) * self.inverse
        self.z = self.z + (gradient - sigma * w)
        self.n = self.n + gradient * gradient
        shrunk = np.maximum(np.abs(self.z) - tick * self.l1, 0.0)
        return -np.copysign(shrunk, self.z) / ((self.beta + np.sqrt(self.n)) * self.inverse + tick * self.l2)


class Add:
    def update(self, w, gradient, tick):
        return w + gradient


def mean_of(gradients, rows):
    """The mean weighted by rows, summed in rank order."""
    total = gradients[0] * (rows[0] / sum(rows))
    for gradient, count in zip(gradients[1:], rows[1:], strict=True):
        total = total + (count / sum(rows)) * gradient
    return total


def sum_of(gradients, rows):
    total = gradients[0] * 1.0
    for gradient in gradients[1:]:
        total = total + gradient
    return total
