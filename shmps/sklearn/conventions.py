"""The conventions of scikit-learn for estimators. It is imported only inside methods that it calls itself."""

import copy
import functools
import inspect
import sys
from collections.abc import Callable
from html import escape
from typing import Any, Self, TypeVar

from shmps.errors import UsageError
from shmps.linear.text import html_table
from shmps.linear.vocabulary import advice

_Class = TypeVar("_Class", bound=type)
_METHODS = ("fit", "partial_fit", "score")  # that take `sample_weight`


def naming_parameters(estimator: _Class) -> _Class:
    """Decorate an estimator: an unknown argument of its constructor is a TypeError with advice."""
    init: Any = estimator.__init__  # type: ignore[misc]
    known = [name for name in inspect.signature(init).parameters if name != "self"]

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **given: Any) -> None:
        if unknown := [name for name in given if name not in known]:
            why = "; ".join(advice(name, known) for name in unknown)
            raise TypeError(f"{type(self).__name__} takes no {', '.join(unknown)}: {why}")
        init(self, *args, **given)

    estimator.__init__ = __init__  # type: ignore[misc]
    return estimator


class Estimator:
    """An estimator whose parameters are the arguments of the constructor, which only stores them."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name. `deep` changes nothing, since no parameter is an estimator."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name. Raises UsageError for an unknown name."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise UsageError(f"{type(self).__name__} takes no {name}: {advice(name, known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        given = {name: value for name, value in self.get_params().items() if value is not defaults[name]}
        changed = [f"{name}={value!r}" for name, value in given.items() if value != defaults[name]]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _repr_html_(self) -> str:
        """Return what notebooks show: what was set, all parameters, and the figures of the last training."""
        lines = [(name, repr(value)) for name, value in self.get_params().items()]
        result = getattr(self, "result_", None)
        figures = "" if result is None else result._repr_html_()
        return (
            f"<details><summary><code>{escape(repr(self))}</code>, {'fitted' if figures else 'not fitted'}"
            f"</summary>{figures}<details><summary>Parameters</summary>{html_table(lines)}</details></details>"
        )

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(multi_class=True),
            input_tags=InputTags(sparse=True),
        )

    # Metadata routing (scikit-learn's SLEP006): what a meta-estimator asks if it is enabled.

    def get_metadata_routing(self) -> Any:
        """Return which methods ask a meta-estimator for `sample_weight`."""
        return copy.deepcopy(self._requests())

    def set_fit_request(self, *, sample_weight: bool | str | None) -> Self:
        """Set whether a meta-estimator passes `sample_weight` to `fit`, or under which name."""
        return self._request("fit", sample_weight)

    def set_partial_fit_request(self, *, sample_weight: bool | str | None) -> Self:
        """Set the same for `partial_fit`."""
        return self._request("partial_fit", sample_weight)

    def set_score_request(self, *, sample_weight: bool | str | None) -> Self:
        """Set the same for `score`."""
        return self._request("score", sample_weight)

    def _request(self, method: str, sample_weight: bool | str | None) -> Self:
        requests = self._requests()
        getattr(requests, method).add_request(param="sample_weight", alias=sample_weight)
        self._metadata_request = requests  # the name that `clone` copies
        return self

    def _requests(self) -> Any:
        from sklearn.utils.metadata_routing import MetadataRequest

        if hasattr(self, "_metadata_request"):
            return self._metadata_request
        requests = MetadataRequest(owner=self)
        for method in _METHODS:
            getattr(requests, method).add_request(param="sample_weight", alias=None)
        return requests


class _NotOffered(UsageError, AttributeError):
    """The parameters exclude a method. As an AttributeError, it makes `hasattr` return False."""


class _Offered:
    def __init__(self, method: Callable[..., Any], refusal: Callable[[Any], str]):
        self.__doc__ = method.__doc__
        self._method, self._refusal = method, refusal

    def __get__(self, estimator: Any, owner: Any = None) -> Any:
        if estimator is None:
            return self._method
        if why := self._refusal(estimator):
            raise _NotOffered(why)
        return self._method.__get__(estimator, owner)


def offered_unless(refusal: Callable[[Any], str]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a method that an estimator lacks while `refusal(estimator)` returns a reason, not "".

    Looking it up then raises UsageError with the reason.
    """
    return lambda method: _Offered(method, refusal)


def known_to_sklearn(kind: Any, name: str) -> Any:
    """Return `kind`; if scikit-learn is loaded, a class that is also `name` of sklearn.exceptions."""
    exceptions = sys.modules.get("sklearn.exceptions")
    return kind if exceptions is None else _both(kind, getattr(exceptions, name))


def warning_known_to_sklearn(warning: Warning, name: str) -> Warning:
    """Return `warning`; if scikit-learn is loaded, one that is also `name` of sklearn.exceptions."""
    both: Warning = known_to_sklearn(type(warning), name)(*warning.args)
    vars(both).update(vars(warning))
    return both


@functools.cache
def _both(kind: Any, other: Any) -> Any:
    if issubclass(other, kind):
        return other
    return type(other.__name__, (kind, other), {"__doc__": other.__doc__, "__module__": __name__})
