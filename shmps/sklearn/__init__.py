"""The estimator, and the conventions of scikit-learn that it follows."""
