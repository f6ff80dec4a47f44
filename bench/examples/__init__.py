"""A tour of the estimator, and three trainings on the key-value layer that bring their own updater."""
