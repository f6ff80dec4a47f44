"""Trained models: predictions, metrics and files."""

# The file formats of models. Each is a module in `shmps.models.formats`; the help of the command line names
# them without an import of numpy and scipy.
FORMATS = ("shmps", "liblinear", "npz")
