"""A tour of the estimator, and trainings on the key-value layer, each with an updater of its own."""
