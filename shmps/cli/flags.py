"""Messages of the command line name flags instead of parameters."""

import argparse
import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from shmps.errors import OutOfSpace, UsageError

# name=value; a name of several words; a name that a message begins with. Others are words of English too.
_NAMES = re.compile(r"\b(\w+)=('[^']*'|\([^)]*\)|[^\s,;()]+)|\b([a-z]+(?:_[a-z]+)+)\b|^(\w+)(?= )")

# What other programs for linear models call it: liblinear, scikit-learn, Vowpal Wabbit, XGBoost, LightGBM.
_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    name: flags
    for names, flags in {
        "lr eta eta0 rate step_size -l": ("--learning-rate",),
        "alpha": ("--learning-rate", "--l2"),
        "-C -c c reg reg_param lambda weight_decay penalty": ("--l2",),
        "reg_lambda lambda_l2": ("--l2",),
        "reg_alpha lambda_l1": ("--l1",),
        "max_iter max_iterations n_iter num_iter num_round num_boost_round": ("--iterations", "--epochs"),
        "passes num_epochs n_epochs": ("--epochs",),
        "output out -o -f final_regressor save model_file output_model save_model": ("--output", "--model"),
        "bit_precision -b bits": ("--hash-bits",),
        "invert_hash readable_model": ("--keep-names",),
        "target target_column label_column label_col y": ("--label",),
        "sample_weight weight weight_file": ("--weights", "--weight-column"),
        "sep separator": ("--delimiter",),
        "optimizer rule": ("--updater",),
        "n_jobs jobs threads nthread num_threads num_workers processes -j -p": ("--workers",),
        "batch minibatch": ("--batch-size",),
        "train train_data training_data -d": ("--data",),
        "valid validation eval_set test_data -t": ("--test",),
        "eps epsilon tolerance -e": ("--tol",),
        "bias -B": ("--intercept",),
        "probability probabilities predict_proba": ("--proba",),
        "silent -q": ("--quiet",),
    }.items()
    for name in names.split()
}
_AND_THIS = {
    name: ", which is 1 / (C * rows) of liblinear and scikit-learn" for name in ("-C", "-c", "--C", "--c")
}


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """The flag of every parameter, which is the `dest` of it."""
    flags = {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}
    if rate := flags.get("learning_rate"):
        flags["alpha"] = rate  # as FTRL calls it
    return {name: flag for name, flag in flags.items() if name != "mode"}


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """`l1=0.1` as --l1 0.1, `mode='async'` as --async, `node_timeout` as --node-timeout."""

    def flag(match: re.Match[str]) -> str:
        name, value = match[1] or match[3] or match[4], (match[2] or "").strip("'")
        if name == "mode" and value:
            return f"--{'bound' if value == 'bounded' else value}"
        if name not in flags:
            return match[0]
        if value in ("True", "False", "None"):
            return flags[name] if value == "True" else f"no {flags[name]}"
        return f"{flags[name]} {value}".rstrip()

    return _NAMES.sub(flag, message)


def meant(name: str, known: Collection[str], flags: Mapping[str, str]) -> list[str]:
    """The `known` flags that do what a flag of this name does elsewhere; flags: those of the parameters."""
    if len(name) > 2:
        name = name.lstrip("-").lower().replace("-", "_")
    elsewhere = [flag for flag in _ELSEWHERE.get(name, ()) if flag in known]
    return elsewhere or ([flags[name]] if name in flags else [])


def nearest(wrong: str, known: Collection[str], flags: Mapping[str, str]) -> str:
    """What to write for a flag that is not `known`, "--max-iter is --iterations here", or nothing."""
    if same := meant(wrong, known, flags):
        return f"{wrong} is {' or '.join(same)} here" + _AND_THIS.get(wrong, "")
    longer = [flag for flag in known if len(wrong) > 3 and flag.startswith(wrong.replace("_", "-"))]
    near = longer or difflib.get_close_matches(wrong, known, n=1, cutoff=0.7)
    return f"{near[0]} is near" if near else ""


@contextmanager
def naming_flags(flags: Mapping[str, str]) -> Iterator[None]:
    """In the block errors speak of flags."""
    try:
        yield
    except (UsageError, OutOfSpace) as error:
        raise type(error)(in_flags(str(error), flags)) from error
