"""The wording of a command: messages name flags instead of parameters, and unknown flags get advice."""

import argparse
import difflib
from collections.abc import Collection, Mapping
from typing import Any

from shmps.errors import Named, literal
from shmps.linear.vocabulary import ELSEWHERE, otherwise

# The flags by their names in other programs, beside those of the parameters.
_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    name: flags
    for names, flags in {
        "-l": ("--learning-rate",),
        "-C -c": ("--C",),
        "output out -o -f final_regressor save model_file output_model save_model": ("--output", "--model"),
        "bit_precision -b bits": ("--hash-bits",),
        "invert_hash readable_model": ("--keep-names",),
        "target target_column label_column label_col y": ("--label",),
        "sample_weight weight weight_file": ("--weights", "--weight-column"),
        "sep separator": ("--delimiter",),
        "-j -p": ("--workers",),
        "train train_data training_data -d": ("--data",),
        "valid validation eval_set test_data -t": ("--test",),
        "-e": ("--tol",),
        "-B": ("--intercept",),
        "probability probabilities predict_proba": ("--proba",),
        "silent -q": ("--quiet",),
        "verbose -v": ("--log", "--live"),
    }.items()
    for name in names.split()
}


class Flags:
    """The flags of a command by parameter. Called with a parameter, it returns how messages name it."""

    def __init__(self, parser: argparse.ArgumentParser):
        self.by_name: dict[str, str] = {}
        self._by_value: list[tuple[str, Any, str]] = []  # flags that give a parameter one value
        for action in parser._actions:
            if isinstance(action, argparse.BooleanOptionalAction):
                yes, no = action.option_strings[0], action.option_strings[-1]
                self._by_value += [(action.dest, True, yes), (action.dest, False, no)]
            elif action.option_strings and action.nargs == 0:
                self._by_value.append((action.dest, action.const, action.option_strings[0]))
            if action.option_strings and not isinstance(action.const, str):
                self.by_name.setdefault(action.dest, action.option_strings[0])
        if "bound" in self.by_name:
            self._by_value.append(("mode", "bounded", self.by_name["bound"]))
        if "learning_rate" in self.by_name:
            self.by_name["alpha"] = self.by_name["learning_rate"]  # its name in FTRL's paper

    def __call__(self, name: str, value: Any) -> Named:
        return _Flag(self, name, value)

    def set_to(self, name: str, value: Any) -> str | None:
        """Return what gives the parameter `name` this value; None if the command has no such flag."""
        for dest, const, flag in self._by_value:
            if dest == name and const == value:
                return flag
        if name not in self.by_name:
            return None
        flag = self.by_name[name]
        return f"no {flag}" if value is None else f"{flag} {_text(value)}"


class _Flag(Named):
    """A parameter that messages call by its flag."""

    def __init__(self, flags: Flags, name: str, value: Any):
        super().__init__(flags.by_name.get(name, name), value)
        self._flags, self._parameter = flags, name

    def set_to(self, value: Any) -> str:
        return self._flags.set_to(self._parameter, value) or super().set_to(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else literal(value)


def meant(name: str, known: Collection[str], flags: Mapping[str, str]) -> list[str]:
    """Return the `known` flags that do what a flag of this name does in other programs.

    flags: the flag of each parameter, so that a parameter's name counts as one of its names.
    """
    name = _word(name)
    elsewhere = [flags[ours] for ours in ELSEWHERE.get(name, ()) if ours in flags]
    elsewhere += [flag for flag in _ELSEWHERE.get(name, ()) if flag in known]
    return elsewhere or ([flags[name]] if name in flags else [])


def _word(flag: str) -> str:
    """Return the name of a flag as a parameter has it; a flag of one letter is its own name."""
    return flag if len(flag) <= 2 else flag.lstrip("-").lower().replace("-", "_")


def nearest(wrong: str, known: Collection[str], flags: Flags) -> str:
    """Return advice for a flag that is not `known`, such as "--max-iter is --iterations here", or ""."""
    if same := meant(wrong, known, flags.by_name):
        return f"{wrong} is {' or '.join(same)} here"
    if "solver" in flags.by_name and (what := otherwise(_word(wrong), flags)):
        return what
    longer = [flag for flag in known if len(wrong) > 3 and flag.startswith(wrong.replace("_", "-"))]
    near = longer or difflib.get_close_matches(wrong, known, n=1, cutoff=0.7)
    return f"{near[0]} is near" if near else ""
