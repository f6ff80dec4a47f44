"""`shmps predict`: a label or a probability for every row; how good they are, where that is known."""

import argparse
from typing import Any

import numpy as np

from shmps import console, files, formats
from shmps.commands.rows import label_text, read_rows
from shmps.metrics import evaluate
from shmps.models import Model
from shmps.reading.svmlight import fit_columns


def add(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "predict",
        help="label the rows of a file",
        description="Write a label (or a probability) for every row, one per line, and to stderr how good "
        "they are, if the rows' labels are the model's.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a file that `train --model` or liblinear wrote")
    parser.add_argument("data", metavar="DATA", help="rows as for train; - reads svmlight text from stdin")
    parser.add_argument("--proba", action="store_true", help="probabilities of the larger label instead")
    parser.add_argument(
        "--output", metavar="FILE", default="-", help="where to write them (default: -, which is stdout)"
    )
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but what is wrong")
    return parser


def run(options: argparse.Namespace) -> None:
    if options.output != "-":
        files.check_target(options.output, "file of predictions")
    model = formats.load(options.model)
    X, y = read_rows(options.data)
    X, dropped = fit_columns(X, model.num_features)
    if dropped and not options.quiet:
        console.say(f"dropped {dropped} non-zeros of {options.data}: their features are not in the model")
    if options.proba:
        lines = "".join(f"{share:.17g}\n" for share in model.predict_proba(X)[:, 1])
    else:
        lines = "".join(f"{label_text(label)}\n" for label in model.predict(X))
    if options.output == "-":
        console.output(lines, end="")
    else:
        text = lines.encode("utf-8", "backslashreplace")
        files.write(options.output, [text], "the predictions", "predict again")
    if not options.quiet and (told := _how_good(model, X, y)):
        console.tell(told)


def _how_good(model: Model, X: Any, y: np.ndarray) -> str:
    """Of the predictions for rows X whose true labels are y (rows,); nothing where others are among them."""
    found = np.unique(y).tolist()
    if any(label not in model.labels for label in found):
        return ""
    positive = [label for label in found if label == model.labels[1]]
    metrics = evaluate(model.decision_function(X), np.where(np.isin(y, positive), 1, -1))
    return (
        f"accuracy {metrics.accuracy:.4f} (majority {metrics.baseline:.4f}), "
        f"log-loss {metrics.log_loss:.4f}, AUC {metrics.auc:.4f}"
    )
