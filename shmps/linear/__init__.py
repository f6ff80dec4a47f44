"""Training of linear models: settings, workers' loops, solvers, results."""
