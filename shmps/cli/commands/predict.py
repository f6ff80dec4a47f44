"""`shmps predict`: a label or a probability for every row, and metrics if the rows have labels."""

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from shmps.cli import console
from shmps.cli.arguments import add_reading, add_weights
from shmps.cli.commands.rows import label_text, said, weights_of
from shmps.data.dialect import Dialect, origin_of
from shmps.errors import DataError
from shmps.system import files

if TYPE_CHECKING:
    from shmps.models.model import Model


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a label (or a probability) for every row, one per line, and metrics to stderr if "
        "the labels of the rows are among those of the model."
    )
    parser.add_argument("model", metavar="MODEL", help="a file that `train --model` or liblinear wrote")
    parser.add_argument(
        "data", metavar="DATA", help="rows as for train (CSV may be without labels); - reads them from stdin"
    )
    add_reading(parser)
    add_weights(parser)
    parser.add_argument(
        "--proba",
        action="store_true",
        help="write probabilities: that of the label for margins above 0; with more than two labels, that of "
        "each, in the order of `inspect`",
    )
    parser.add_argument(
        "--output", metavar="FILE", default="-", help="the file to write to (default: -, which is stdout)"
    )
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but errors and warnings")


def run(options: argparse.Namespace) -> None:
    from shmps.data.matching import matched
    from shmps.data.reading import as_training, read
    from shmps.models import formats

    if options.output != "-":
        files.check_target(
            options.output, "file of predictions", (options.model, options.data, options.sample_weight)
        )
    model = formats.load(options.model)
    training = Dialect.of(model.settings)
    rows = read(options.data, as_training(options.data, training, said(options)), labelled=False)
    _check_columns(options, origin_of(rows.X))
    X, dropped = matched(rows.X, training, model.num_features)
    weights = weights_of(options.sample_weight, rows.weights, X.shape[0])
    if dropped and not options.quiet:
        console.say(f"dropped {dropped} non-zeros of {options.data}: their features are not in the model")
    lines = _shares(model, X) if options.proba else _labels(model, X)
    if options.output == "-":
        console.output(lines, end="")
    else:
        text = lines.encode("utf-8", "backslashreplace")
        files.write(options.output, [text], "the predictions", "predict again")
    if not options.quiet:
        _tell_how_good(model, X, rows.y, weights)


def _check_columns(options: argparse.Namespace, found: Dialect) -> None:
    """Raise DataError if a flag names a column that the data lacks. Columns of the model may be missing."""
    for flag, asked, has in (
        ("--label", options.label, found.label),
        ("--weight-column", options.weight_column, found.weight_column),
    ):
        if asked is not None and has is None:
            raise DataError(
                f"{options.data}: {flag} must name a column of the data, got {asked!r}; correct "
                f"the name, or leave {flag} out"
            )


def _labels(model: "Model", X: Any) -> str:
    return "".join(f"{label_text(label)}\n" for label in model.predict(X).tolist())


def _shares(model: "Model", X: Any) -> str:
    shares = model.predict_proba(X)
    told = shares[:, 1:] if len(model.labels) == 2 else shares
    return "".join(" ".join(f"{share:.17g}" for share in row) + "\n" for row in told)


def _tell_how_good(model: "Model", X: Any, y: np.ndarray, weights: np.ndarray | None) -> None:
    """Print the metrics of the predictions for X, if all rows have true labels y (rows,)."""
    from shmps.models.metrics import evaluate, evaluate_classes
    from shmps.sklearn.labels import listed

    places = {label: place for place, label in enumerate(model.labels)}
    truth = y.tolist()
    if any(label != label for label in truth) or (weights is not None and not weights.any()):
        return
    if strange := sorted({label for label in truth if label not in places}, key=str):
        count = sum(label not in places for label in truth)
        console.say(
            f"no metrics: the labels must be those of training, {listed(list(model.labels))}; {count:,} of "
            f"{len(truth):,} rows have others: {listed(strange)}"
        )
        return
    numbers = np.array([places[label] for label in truth])
    margins = model.decision_function(X)
    if margins.ndim == 1:
        metrics = evaluate(margins, 2 * numbers - 1, weights)
    else:
        metrics = evaluate_classes(
            lambda number: margins[:, number], len(model.labels), numbers, weights, model.link
        )
    console.tell(
        f"accuracy {metrics.accuracy:.4f} (majority {metrics.baseline:.4f}), "
        f"log-loss {metrics.log_loss:.4f}, AUC {metrics.auc:.4f}"
    )
